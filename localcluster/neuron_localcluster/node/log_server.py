"""The kubelet's HTTPS endpoint for `kubectl logs`, as the API server calls it."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from neuron_localcluster.files import write_whole
from neuron_localcluster.node import clock
from neuron_localcluster.node.logs import ContainerLog, LogOptions, render, tail
from neuron_localcluster.node.pods import PodDirectory
from neuron_localcluster.node.state import Waiting

_READ_BYTES = 256 * 1024


class LogServer:
    """Serves on 127.0.0.1 alone, with a certificate of its own making; it asks nobody who they are."""

    def __init__(self, pods: PodDirectory, state_dir: Path) -> None:
        self.port = 0
        self._pods = pods
        self._state_dir = state_dir
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=server_context(self._state_dir))
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        place = request.match_info
        worker = self._pods.find(place["namespace"], place["pod"])
        if worker is None:
            raise web.HTTPNotFound(text=f'pod "{place["pod"]}" is not on this node')
        container = worker.container(place["container"])
        if container is None:
            raise web.HTTPNotFound(text=f'pod "{place["pod"]}" has no container "{place["container"]}"')
        try:
            options = parse_options(request.query)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        run = container.state.restarts
        if request.query.get("previous") == "true":
            run -= 1
            if run < 0:
                text = f'previous terminated container "{place["container"]}" in pod "{place["pod"]}" not found'
                raise web.HTTPBadRequest(text=text)
        path = worker.folder.container(place["container"]).log(run)
        if not path.exists():
            state = container.state.state
            reason = state.reason if isinstance(state, Waiting) else "its log is gone"
            text = f'container "{place["container"]}" in pod "{place["pod"]}" is waiting to start: {reason}'
            raise web.HTTPBadRequest(text=text)
        live = container.log if container.log and container.log.path == path else None
        follow = request.query.get("follow") == "true"
        return await _send(request, path, options, live if follow else None)


def parse_options(query: Mapping[str, str]) -> LogOptions:
    """Raises ValueError when a parameter cannot be understood."""
    since = None
    if seconds := query.get("sinceSeconds"):
        since = clock.now() - datetime.timedelta(seconds=int(seconds))
    elif moment := query.get("sinceTime"):
        since = clock.parse(moment)
    lines = query.get("tailLines")
    return LogOptions(
        tail_lines=int(lines) if lines is not None else None,
        timestamps=query.get("timestamps") == "true",
        since=since,
    )


async def _send(request: web.Request, path: Path, options: LogOptions, live: ContainerLog | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    left = int(request.query.get("limitBytes", "0")) or None
    with path.open("rb") as file:
        lines = tail(file.readlines(), options.tail_lines)
        while True:
            data = b"".join(render(lines, options))
            await response.write(data if left is None else data[:left])
            if left is not None and (left := left - len(data)) <= 0:
                break
            # Asked before the file is read again: what comes in between is not missed.
            waiting = live is not None and not live.closed
            lines = file.readlines(_READ_BYTES)
            if not lines:
                if live is None or not waiting:
                    break
                await live.more()
                lines = file.readlines(_READ_BYTES)
    await response.write_eof()
    return response


def server_context(folder: Path) -> ssl.SSLContext:
    """The server's TLS, with the certificate that the folder holds, made when it holds none."""
    file = folder / "kubelet.pem"
    if not file.exists():
        write_whole(file, _self_signed())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def _self_signed() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "neuron-localcluster-node")])
    start = clock.now() - datetime.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
