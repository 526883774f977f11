"""The agent's servers and its view of Services, probes and addresses, on real sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import boto3
import pytest

from neuron_localcluster.controlplane import SERVICE_CIDR
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.node import config
from neuron_localcluster.node.addresses import AddressPool
from neuron_localcluster.node.credentials import CredentialServer, Identity, access_keys
from neuron_localcluster.node.environment import ConfigError
from neuron_localcluster.node.probes import Probe, ProbeSettings, Tally
from neuron_localcluster.node.services import ServicePort, Services, service_ports, target_port
from support.addresses import free_port, own_address

Address = tuple[str, int]


def service(address: Address = ("127.96.250.9", 18080), **spec: Any) -> dict[str, Any]:
    defaults = {
        "clusterIP": address[0],
        "selector": {"app": "web"},
        "ports": [{"port": address[1], "targetPort": "http"}],
    }
    return {"metadata": {"namespace": "ns", "uid": "u"}, "spec": defaults | spec}


def test_which_addresses_a_service_listens_on() -> None:
    assert service_ports(service()) == {ServicePort("127.96.250.9", 18080, "http", "ns", (("app", "web"),))}
    udp = {"port": 53, "protocol": "UDP"}
    for spec in ({"clusterIP": "None"}, {"selector": None}, {"clusterIP": "10.0.0.1"}, {"ports": [udp]}):
        assert service_ports(service(**spec)) == frozenset()


def test_a_target_port_may_be_a_name() -> None:
    ports = [{"name": "http", "containerPort": 8080}]
    pod = {"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": ports}]}}
    assert (target_port("http", pod), target_port(9, pod), target_port("none", pod)) == (8080, 9, None)


@pytest.fixture
def pod_address() -> Iterator[str]:
    with own_address() as address:
        yield address


@pytest.fixture
def front() -> Iterator[Address]:
    """Where a Service of the test's own may listen."""
    with own_address(SERVICE_CIDR) as address:
        yield address, free_port()


class OnePod:
    """A directory whose one pod may be ready or not, and has one label."""

    def __init__(self, ip: str, port: int, app: str = "web") -> None:
        self._labels = {"app": app}
        ports = [{"name": "http", "containerPort": port}]
        self._pod = SimpleNamespace(ip=ip, manifest={"spec": {"containers": [{"name": "c", "ports": ports}]}})
        self.is_ready = False

    def find(self, namespace: str, name: str) -> None:
        return None

    def ready(self, namespace: str, selector: Mapping[str, str]) -> Iterator[Any]:
        if self.is_ready and (namespace, selector) == ("ns", self._labels):
            yield self._pod


async def test_a_service_carries_half_closed_connections_refuses_without_pods_and_ends(
    pod_address: str, front: Address
) -> None:
    async def echo_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Answers only once the client has said that it is done.
        writer.write(await reader.read())
        writer.close()

    backend = await asyncio.start_server(echo_all, pod_address, 0)
    pod = OnePod(pod_address, backend.sockets[0].getsockname()[1])
    services = Services(pod)
    task = asyncio.create_task(services.run())
    try:
        services.observe("ADDED", service(front))
        await _listening(front, True)
        with pytest.raises(ConnectionResetError):
            await _ask(front, b"x")
        pod.is_ready = True
        sent = b"x" * 3_000_000
        assert await _ask(front, sent) == sent
        services.observe("DELETED", service(front))
        await _listening(front, False)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        backend.close()


async def test_a_service_goes_on_answering_while_its_selector_changes(pod_address: str, front: Address) -> None:
    async def name_itself(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"v2")
        writer.close()

    backend = await asyncio.start_server(name_itself, pod_address, 0)
    pod = OnePod(pod_address, backend.sockets[0].getsockname()[1], app="v2")
    pod.is_ready = True
    services = Services(pod)
    task = asyncio.create_task(services.run())
    try:
        services.observe("ADDED", service(front, selector={"app": "v1"}))
        await _listening(front, True)
        refused: list[int] = []
        async with asyncio.timeout(60):
            for number in range(50):
                services.observe("MODIFIED", service(front, selector={"app": f"v{1 + number % 2}"}))
                # Nothing of the agent runs between its steps: each is a moment that a client may fall into.
                for _ in range(4):
                    await asyncio.sleep(0)
                    with socket.socket() as client:
                        refused.append(client.connect_ex(front))
            assert set(refused) == {0}
            services.observe("MODIFIED", service(front, selector={"app": "v2"}))
            while await _answer(front) != b"v2":
                continue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        backend.close()


async def test_boto3_takes_the_credentials_of_the_pods_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = CredentialServer()
    await server.start()
    token = server.issue(Identity("ns", "sa"))
    (tmp_path / "token").write_text(token)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    try:
        found = await asyncio.to_thread(lambda: boto3.Session().get_credentials())
        assert found is not None
        assert found.method == "container-role"
        frozen = found.get_frozen_credentials()
        keys = access_keys("ns", "sa")
        assert (frozen.access_key, frozen.secret_key) == (keys.key_id, keys.secret)
        assert (len(keys.key_id), len(keys.secret)) == (20, 40)
        assert access_keys("ns", "other") != keys
        server.revoke(token)
        answer = await _http_status(server.url, token)
        assert answer == 401
    finally:
        await server.stop()


def test_agents_of_one_machine_never_share_an_address() -> None:
    # A network that is soon used up. Another run on this machine, with claims of its own, hardly draws the same one.
    network = random.choice(list(ipaddress.IPv4Network("127.78.0.0/16").subnets(new_prefix=29)))
    first, second = AddressPool(str(network)), AddressPool(str(network))
    taken = [first.take() for _ in range(3)] + [second.take() for _ in range(3)]
    assert set(taken) == {str(address) for address in network.hosts()}
    with pytest.raises(OSError, match="no free address"):
        second.take()
    first.give_back(taken[0])
    assert second.take(preferred=taken[0]) == taken[0]
    for pool in (first, second):
        for address in taken:
            pool.give_back(address)


def test_a_probe_speaks_only_after_its_threshold() -> None:
    tally = Tally(ProbeSettings(0, 1, 1, success_threshold=2, failure_threshold=3))
    results = [True, True, False, False, True, False, False, False, False]
    assert [tally.verdict(result) for result in results] == [
        None, True, None, None, None, None, None, False, False,
    ]  # fmt: skip


async def test_probes_over_http_tcp_and_command() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readline()).split()
        status = b"200 OK" if request[1:2] == [b"/good"] else b"503 Unavailable"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    container = {"name": "c", "ports": [{"name": "http", "containerPort": port}]}
    cases: list[tuple[dict[str, Any], tuple[bool, str]]] = [
        ({"httpGet": {"path": "/good", "port": "http"}}, (True, "")),
        ({"httpGet": {"path": "/bad", "port": port}}, (False, "HTTP probe failed with statuscode: 503")),
        ({"tcpSocket": {"port": port}}, (True, "")),
        ({"exec": {"command": ["0"]}}, (True, "")),
        ({"exec": {"command": ["5"]}}, (False, "exec probe ended with exit code 5")),
        ({"exec": {"command": ["slow"]}, "timeoutSeconds": 0.05}, (False, "no answer within 0.05 s")),
    ]

    async def run(command: list[str]) -> int:
        if command == ["slow"]:
            await asyncio.Event().wait()
        return int(command[0])

    for manifest, expected in cases:
        probe = Probe({**manifest, "failureThreshold": 1}, container, "127.0.0.1", run)
        assert await anext(aiter(probe.verdicts())) == expected
    server.close()
    with pytest.raises(ConfigError, match="only httpGet, tcpSocket and exec"):
        Probe({"grpc": {"port": 1}}, container, "127.0.0.1", run)
    with pytest.raises(ConfigError, match='no port named "none"'):
        Probe({"tcpSocket": {"port": "none"}}, container, "127.0.0.1", run)


def test_the_configuration_names_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    node = {"name": "cpu", "capacity": {"cpu": "8"}}
    content = {
        "kubeconfig": "/k",
        "stateDir": str(tmp_path),
        "nodes": [node],
        "images": {"known:1": {"path": "/bin"}},
        "podCIDR": "127.77.0.0/16",
    }
    file.write_text(json.dumps(content))
    loaded = config.load(file)
    assert loaded.images == {"known:1": {"path": "/bin"}}
    assert loaded.nodes == (config.NodeConfig("cpu", {"cpu": "8"}),)

    del content["podCIDR"]
    file.write_text(json.dumps(content))
    with pytest.raises(ClusterError, match="the field 'podCIDR' is missing"):
        config.load(file)


async def _answer(front: Address) -> bytes:
    try:
        return await _ask(front, b"")
    except ConnectionResetError:
        return b""


async def _ask(front: Address, content: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*front)
    try:
        writer.write(content)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()


async def _listening(front: Address, expected: bool) -> None:
    async with asyncio.timeout(60):
        while True:
            with socket.socket() as attempt:
                attempt.setblocking(True)
                if (attempt.connect_ex(front) == 0) is expected:
                    return
            await asyncio.sleep(0.01)


async def _http_status(url: str, token: str) -> int:
    headers = {"Authorization": token}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status
