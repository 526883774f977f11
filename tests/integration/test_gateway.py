"""The gateway against a real API server; and against servers that break off, where no real one would."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster.cluster import Cluster
from neuron_operator.api.objects import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    NEURON_MODEL,
    SERVICE,
    SERVICE_ACCOUNT,
    Key,
    Kind,
    Manifest,
    key_of,
    uid_of,
)
from neuron_operator.errors import AlreadyExists, Conflict, NamespaceEnding, NotLeader, Rejected, Transient
from neuron_operator.kube import gateway as gateway_module
from neuron_operator.kube.access import ClusterAccess
from neuron_operator.kube.definition import NotServed, check_definition
from neuron_operator.kube.events import EventRecorder
from neuron_operator.kube.gateway import Gateway
from neuron_operator.kube.leases import KubernetesLeaseStore
from neuron_operator.loop.lease import LeaderLease
from support.api_server import access_by, limited_kubeconfig
from support.kubectl import Kubectl
from support.recording import eventually

pytestmark = pytest.mark.cluster

_MISSING = "0" * 8


@pytest.fixture
def access(cluster: Cluster) -> ClusterAccess:
    return access_by(cluster.kubeconfig)


@pytest.fixture
async def gateway(access: ClusterAccess) -> AsyncIterator[Gateway]:
    async with Gateway(access) as gateway:
        yield gateway


def _service(namespace: str, name: str = "svc", port: int = 8080, **labels: str) -> Manifest:
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.name,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": port}]},
    }


def _account(namespace: str, name: str = "acc", **labels: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
    }


def _deployment(namespace: str) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "dep", "namespace": namespace},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    }


async def test_what_was_created_is_read_and_listed_as_a_whole_object(gateway: Gateway, namespace: str) -> None:
    created = await gateway.create(_service(namespace, team="x"))
    assert (created["apiVersion"], created["kind"]) == ("v1", "Service")
    assert "managedFields" not in created["metadata"]
    assert await gateway.get(SERVICE, key_of(created)) == created
    assert await gateway.list(SERVICE, namespace=namespace) == [created]
    assert created in await gateway.list(SERVICE)
    assert await gateway.list(SERVICE, namespace=namespace, label_selector="team=y") == []
    assert await gateway.list(SERVICE, label_selector="team=x", namespace=namespace) == [created]


async def test_what_is_not_there_is_none(gateway: Gateway, namespace: str) -> None:
    assert await gateway.get(SERVICE, Key(namespace, "nothing")) is None
    assert await gateway.get(SERVICE, Key("no-such-namespace", "nothing")) is None


async def test_a_name_is_taken_once(gateway: Gateway, namespace: str) -> None:
    await gateway.create(_service(namespace))
    with pytest.raises(AlreadyExists):
        await gateway.create(_service(namespace))


async def test_an_apply_creates_changes_and_takes_back_what_it_no_longer_names(
    gateway: Gateway, namespace: str, kubectl: Kubectl
) -> None:
    first = await gateway.apply(_account(namespace, team="x", size="big"))
    kubectl("label", "serviceaccount/acc", "team=theirs", "own=kept", "--overwrite", f"--namespace={namespace}")
    second = await gateway.apply(_account(namespace, team="y"))
    assert uid_of(second) == uid_of(first)
    assert second["metadata"]["labels"] == {"team": "y", "own": "kept"}
    assert "managedFields" not in second["metadata"]
    live = kubectl.json("get", "serviceaccount/acc", "--show-managed-fields", f"--namespace={namespace}")
    managers = {field["manager"]: field["operation"] for field in live["metadata"]["managedFields"]}
    assert managers["neuron-operator"] == "Apply"


async def test_an_apply_of_the_same_changes_nothing(gateway: Gateway, namespace: str) -> None:
    first = await gateway.apply(_service(namespace))
    assert await gateway.apply(_service(namespace)) == first


async def test_others_can_patch_free_form_data_that_we_created(
    gateway: Gateway, namespace: str, kubectl: Kubectl
) -> None:
    await gateway.create(
        {
            "apiVersion": CONTROLLER_REVISION.api_version,
            "kind": CONTROLLER_REVISION.name,
            "metadata": {"name": "rev", "namespace": namespace},
            "revision": 1,
            "data": {"b": [1, 2.5, None, "é"], "a": {"z": 1, "y": "x" * 200}},
        }
    )
    kubectl("annotate", "controllerrevision/rev", "seen=yes", f"--namespace={namespace}")


async def test_a_replace_needs_the_present_version(gateway: Gateway, namespace: str) -> None:
    old = await gateway.create(_service(namespace))
    changed = {**old, "metadata": {**old["metadata"], "labels": {"team": "x"}}}
    new = await gateway.replace(changed)
    assert new["metadata"]["labels"] == {"team": "x"}
    with pytest.raises(Conflict):
        await gateway.replace(changed)
    await gateway.delete(SERVICE, key_of(old), uid=uid_of(old))
    with pytest.raises(Conflict):
        await gateway.replace(new)


async def test_a_status_is_replaced_at_its_version_and_nothing_else_with_it(gateway: Gateway, namespace: str) -> None:
    old = await gateway.create(_deployment(namespace))

    async def settled() -> Manifest | None:
        live = await gateway.get(DEPLOYMENT, key_of(old))
        assert live is not None
        return live if "observedGeneration" in live["status"] else None

    live = await eventually("the Deployment controller has seen it", settled)
    body = {**live, "spec": {**live["spec"], "replicas": 9}, "status": {**live["status"], "readyReplicas": 0}}
    new = await gateway.replace_status(body)
    assert new["spec"]["replicas"] == 0
    stale = {**body, "metadata": {**body["metadata"], "resourceVersion": "1"}}
    with pytest.raises(Conflict):
        await gateway.replace_status(stale)
    await gateway.delete(DEPLOYMENT, key_of(new), uid=uid_of(new))
    with pytest.raises(Conflict):
        await gateway.replace_status(new)


async def test_a_delete_hits_the_object_that_was_meant(gateway: Gateway, namespace: str) -> None:
    live = await gateway.create(_account(namespace))
    key = key_of(live)
    assert await gateway.delete(SERVICE_ACCOUNT, key, uid="another") is None
    assert await gateway.get(SERVICE_ACCOUNT, key) == live
    assert await gateway.delete(SERVICE_ACCOUNT, key, uid=uid_of(live)) is None
    assert await gateway.get(SERVICE_ACCOUNT, key) is None
    assert await gateway.delete(SERVICE_ACCOUNT, key, uid=uid_of(live)) is None


async def test_a_delete_returns_what_is_still_on_its_way_out(gateway: Gateway, namespace: str) -> None:
    live = await gateway.create(_account(namespace))
    held = await gateway.merge(live, {"automountServiceAccountToken": False})
    left = await gateway.delete(SERVICE_ACCOUNT, key_of(live), uid=uid_of(live), propagation="Foreground")
    assert left is not None
    assert "deletionTimestamp" in left["metadata"]
    assert int(left["metadata"]["resourceVersion"]) > int(held["metadata"]["resourceVersion"])


async def test_a_merge_needs_the_present_version_and_replaces_lists(gateway: Gateway, namespace: str) -> None:
    live = await gateway.create(_service(namespace))
    ports = [{"name": "http", "port": 9090}]
    merged = await gateway.merge(live, {"spec": {"ports": ports}})
    assert [port["port"] for port in merged["spec"]["ports"]] == [9090]
    assert merged["spec"]["clusterIP"] == live["spec"]["clusterIP"]
    with pytest.raises(Conflict):
        await gateway.merge(live, {"spec": {"ports": ports}})


async def test_a_refusal_says_what_is_wrong(gateway: Gateway, namespace: str) -> None:
    with pytest.raises(Rejected, match=r"POST .*/services: .*spec.ports\[0\].port: Invalid value: 99999") as raised:
        await gateway.create(_service(namespace, port=99999))
    assert raised.value.status == 422
    with pytest.raises(Rejected) as raised:
        await gateway.list(Kind("example.dev/v1", "Unknown", "unknowns"))
    assert raised.value.status == 404


async def test_a_missing_right_is_a_refusal(cluster: Cluster, kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    path, user = limited_kubeconfig(cluster, kubectl, namespace, tmp_path, [])
    async with Gateway(access_by(path)) as limited:
        with pytest.raises(Rejected, match=user) as raised:
            await limited.create(_service(namespace))
        assert raised.value.status == 403
        with pytest.raises(NotServed, match="install the chart, with its CRD and its RBAC"):
            await check_definition(limited, NEURON_MODEL)


async def test_a_token_file_is_read_again(cluster: Cluster, kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    rules = [{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]
    path, _ = limited_kubeconfig(cluster, kubectl, namespace, tmp_path, rules)
    token = tmp_path / "token"
    good = token.read_text()
    async with Gateway(access_by(path)) as limited:
        assert await limited.list(SERVICE, namespace=namespace) == []
        token.write_text("expired")
        with pytest.raises(Transient):
            await limited.list(SERVICE, namespace=namespace)
        token.unlink()
        with pytest.raises(Transient):
            await limited.list(SERVICE, namespace=namespace)
        token.write_text(good)
        assert await limited.list(SERVICE, namespace=namespace) == []


async def test_nothing_is_written_into_a_namespace_that_ends(gateway: Gateway, kubectl: Kubectl) -> None:
    ending = f"ending-{secrets.token_hex(4)}"
    kubectl("create", "namespace", ending)
    held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["example.dev/held"]}}
    kubectl("create", "-f", "-", f"--namespace={ending}", document=held)
    kubectl("delete", "namespace", ending, "--wait=false")
    try:
        for write in (gateway.create, gateway.apply):
            with pytest.raises(NamespaceEnding):
                await write(_service(ending))
    finally:
        kubectl(
            "patch", "configmap", "held", f"--namespace={ending}", "--type=merge", '-p={"metadata":{"finalizers":null}}'
        )
    for write in (gateway.create, gateway.apply):
        with pytest.raises(NamespaceEnding):
            await write(_service("no-such-namespace"))


async def test_every_write_asks_the_fence_and_no_read_does(access: ClusterAccess, namespace: str) -> None:
    asked: list[float] = []

    def fence(seconds: float) -> None:
        asked.append(seconds)
        raise NotLeader

    async with Gateway(access, fence=fence) as fenced:
        writes: list[Callable[[Manifest], Any]] = [fenced.create, fenced.apply, fenced.replace, fenced.replace_status]
        for write in writes:
            with pytest.raises(NotLeader):
                await write(_service(namespace))
        with pytest.raises(NotLeader):
            await fenced.delete(SERVICE, Key(namespace, "svc"), uid=_MISSING)
        assert len(asked) == 5
        assert all(0 < seconds <= 4 for seconds in asked)
        assert await fenced.list(SERVICE, namespace=namespace) == []
        assert await fenced.get(SERVICE, Key(namespace, "svc")) is None
        assert len(asked) == 5


@asynccontextmanager
async def _answering(answer: bytes, *, hold: bool = False) -> AsyncIterator[str]:
    """A server that answers anything with these bytes and then closes, or holds the connection."""
    released = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if hold:
            await released.wait()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        released.set()
        server.close()
        await server.wait_closed()


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "hold", "message"),
    [
        (b"", False, "[Dd]isconnected"),
        (b"", True, "no answer in time"),
        (_HEAD + b'{"items"', False, "GET /api/v1/services: .+"),
        (_HEAD + b'{"items"', True, "no answer in time"),
        (b"nonsense\r\n\r\n", False, "GET /api/v1/services: .+"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", False, "not JSON"),
    ],
    ids=["closed", "silent", "cut off", "stalled", "not HTTP", "not JSON"],
)
async def test_a_connection_that_fails_is_transient(
    answer: bytes, hold: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hold:
        monkeypatch.setattr(gateway_module, "_LIST_TIMEOUT_SECONDS", 0.3)
    async with _answering(answer, hold=hold) as url, Gateway(ClusterAccess(url)) as gateway:
        with pytest.raises(Transient, match=message):
            await gateway.list(SERVICE)


async def test_a_server_that_is_busy_says_when_to_come_back() -> None:
    busy = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    async with _answering(busy) as url, Gateway(ClusterAccess(url)) as gateway:
        with pytest.raises(Transient) as raised:
            await gateway.list(SERVICE)
    assert raised.value.after == 7


async def test_a_password_for_the_server_in_netrc_is_nothing_to_us(
    access: ClusterAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret")
    monkeypatch.setenv("NETRC", str(netrc))
    async with Gateway(access) as gateway:
        assert await gateway.get(SERVICE, Key("default", "kubernetes")) is not None


async def test_a_proxy_that_the_environment_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"items": []}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with _answering(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        async with Gateway(ClusterAccess("http://api.example")) as gateway:
            assert await gateway.list(SERVICE) == []


async def test_a_server_that_is_not_there_is_transient() -> None:
    async with Gateway(ClusterAccess("https://127.0.0.1:1")) as gateway:
        with pytest.raises(Transient, match=r"127\.0\.0\.1:1"):
            await gateway.list(SERVICE)


async def test_replicas_lead_one_after_the_other(gateway: Gateway, namespace: str, kubectl: Kubectl) -> None:
    store = KubernetesLeaseStore(gateway, Key(namespace, "leader"))
    led: list[str] = []
    leading = {name: asyncio.Event() for name in "ab"}

    async def work(name: str) -> None:
        led.append(name)
        leading[name].set()
        await asyncio.Event().wait()

    first = asyncio.create_task(LeaderLease(store, "a").lead(lambda: work("a")))
    await asyncio.wait_for(leading["a"].wait(), 60)
    second = asyncio.create_task(LeaderLease(store, "b").lead(lambda: work("b")))
    spec = kubectl.json("get", "lease/leader", f"--namespace={namespace}")["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 15, 0)
    first.cancel()
    await asyncio.wait_for(leading["b"].wait(), 10)
    spec = kubectl.json("get", "lease/leader", f"--namespace={namespace}")["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)
    assert led == ["a", "b"]
    second.cancel()
    await asyncio.wait({first, second})
    assert kubectl.json("get", "lease/leader", f"--namespace={namespace}")["spec"]["holderIdentity"] == ""


async def test_a_lease_that_changed_is_a_conflict_and_a_deleted_one_is_put_back(
    gateway: Gateway, namespace: str, kubectl: Kubectl
) -> None:
    store = KubernetesLeaseStore(gateway, Key(namespace, "leader"))
    assert await store.read() is None
    assert await LeaderLease(store, "a").try_acquire()
    seen = await store.read()
    assert seen is not None
    kubectl("annotate", "lease/leader", "edited=yes", f"--namespace={namespace}")
    with pytest.raises(Conflict):
        await store.replace(seen)
    kubectl("delete", "lease/leader", f"--namespace={namespace}")
    back = await store.replace(seen)
    assert await store.read() == back
    with pytest.raises(Conflict):
        await store.replace(seen)


async def test_an_event_is_shown_with_its_object(gateway: Gateway, namespace: str, kubectl: Kubectl) -> None:
    regarding = await gateway.create(_service(namespace))
    recorder = EventRecorder(gateway, "pod-1")
    await recorder.record(regarding, "Warning", "CompileFailed", "é" * 1000)
    # Kubernetes' own controllers may have something to say of the Service as well.
    found = kubectl.json("get", "events.events.k8s.io", f"--namespace={namespace}")["items"]
    (event,) = (event for event in found if event["reportingController"] == "neuron-operator.dev/operator")
    assert (event["type"], event["reason"], event["reportingInstance"]) == ("Warning", "CompileFailed", "pod-1")
    assert event["note"] == "é" * 512
    assert "CompileFailed" in kubectl("describe", "service/svc", f"--namespace={namespace}")


async def test_an_event_that_cannot_be_recorded_is_told_in_the_log(
    gateway: Gateway, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    regarding = await gateway.create(_service(namespace))
    regarding["metadata"]["namespace"] = "no-such-namespace"
    await EventRecorder(gateway, "pod-1").record(regarding, "Normal", "Ready", "It answers")
    assert "event Ready was not recorded" in caplog.text
