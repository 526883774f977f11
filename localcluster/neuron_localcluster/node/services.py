"""Carries connections to Services' ClusterIPs to ready pods: what kube-proxy does, on loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from neuron_localcluster.controlplane import SERVICE_CIDR
from neuron_localcluster.node.environment import ConfigError
from neuron_localcluster.node.pods import PodDirectory
from neuron_localcluster.node.probes import port_number
from neuron_localcluster.node.state import Manifest

_log = logging.getLogger(__name__)

_NETWORK = ipaddress.IPv4Network(SERVICE_CIDR)
_CHUNK = 256 * 1024
_CONNECT_SECONDS = 5.0
# SO_LINGER with no time to linger: the close is a reset.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class ServicePort:
    """One address to listen on, and which pods answer there."""

    address: str
    port: int
    target: int | str
    namespace: str
    selector: tuple[tuple[str, str], ...]


def service_ports(service: Manifest) -> frozenset[ServicePort]:
    """What to listen on for a Service; nothing for one without selector or without an address of ours. Pure."""
    spec = service["spec"]
    address, selector = spec.get("clusterIP", ""), spec.get("selector") or {}
    if spec.get("type", "ClusterIP") == "ExternalName" or not selector or address in ("", "None"):
        return frozenset()
    if ipaddress.ip_address(address) not in _NETWORK:
        return frozenset()
    return frozenset(
        ServicePort(
            address,
            port["port"],
            port.get("targetPort", port["port"]),
            service["metadata"]["namespace"],
            tuple(sorted(selector.items())),
        )
        for port in spec.get("ports") or ()
        if port.get("protocol", "TCP") == "TCP"
    )


class Services:
    """All Services of the cluster."""

    def __init__(self, pods: PodDirectory) -> None:
        self._pods = pods
        self._wanted: dict[str, frozenset[ServicePort]] = {}
        self._listeners: dict[tuple[str, int], _Listener] = {}
        self._changed = asyncio.Event()

    def observe(self, kind: str, service: Manifest) -> None:
        """One change, as a reflector gives it."""
        ports = frozenset[ServicePort]() if kind == "DELETED" else service_ports(service)
        self._wanted[service["metadata"]["uid"]] = ports
        if not ports:
            del self._wanted[service["metadata"]["uid"]]
        self._changed.set()

    async def run(self) -> None:
        """Let the listeners follow the Services; never returns."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                wanted = {(port.address, port.port): port for ports in self._wanted.values() for port in ports}
                for gone in [place for place in self._listeners if place not in wanted]:
                    self._listeners.pop(gone).close()
                for place, port in wanted.items():
                    if place in self._listeners:
                        # In place: a Service answers while its selector changes.
                        self._listeners[place].port = port
                        continue
                    listener = _Listener(port, self._pods)
                    if await listener.open():
                        self._listeners[place] = listener
        finally:
            for listener in self._listeners.values():
                listener.close()


class _Listener:
    """Listens at the address that `port` had at first; its target and selector are for the next connection."""

    def __init__(self, port: ServicePort, pods: PodDirectory) -> None:
        self.port = port
        self._pods = pods
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._turn = 0

    async def open(self) -> bool:
        try:
            self._server = await asyncio.start_server(self._accept, self.port.address, self.port.port, limit=_CHUNK)
        except OSError as error:
            hint = "; ports below 1024 need root: give the Service one above" if self.port.port < 1024 else ""
            _log.error("cannot listen on %s:%d: %s%s", self.port.address, self.port.port, error, hint)
            return False
        return True

    def close(self) -> None:
        # Open connections stay, as they do when a Service is deleted under kube-proxy.
        if self._server is not None:
            self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            backend = await self._connect()
            if backend is None:
                _refuse(writer)
                return
            backend_reader, backend_writer = backend
            try:
                await asyncio.gather(_copy(reader, backend_writer), _copy(backend_reader, writer))
            except OSError:
                # One side has reset: so must the other see it.
                _refuse(writer)
                _refuse(backend_writer)
            finally:
                backend_writer.close()
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for address, port in self._backends():
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await asyncio.open_connection(address, port, limit=_CHUNK)
            except (OSError, TimeoutError):
                continue
        return None

    def _backends(self) -> Iterator[tuple[str, int]]:
        wanted = self.port
        selector: Mapping[str, str] = dict(wanted.selector)
        ready = sorted(self._pods.ready(wanted.namespace, selector), key=lambda pod: pod.ip)
        self._turn += 1
        for index in range(len(ready)):
            worker = ready[(self._turn + index) % len(ready)]
            port = target_port(wanted.target, worker.manifest)
            if port is not None:
                yield worker.ip, port


def target_port(target: int | str, pod: Manifest) -> int | None:
    """The port of a pod that a Service's targetPort means, None when the pod has no port of that name. Pure."""
    for container in pod["spec"]["containers"]:
        try:
            return port_number(target, container)
        except ConfigError:
            continue
    return None


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _refuse(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
