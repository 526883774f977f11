"""The operator's process on a real API server: when it ends, with which exit code, and what becomes of its lease."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuron_localcluster.cluster import Cluster
from neuron_operator.api.objects import POD
from neuron_operator.model.relations import WATCHED
from support.addresses import own_address
from support.api_server import limited_kubeconfig
from support.definition import definition_installed, remove_definition
from support.kubectl import Kubectl
from support.operator_process import OperatorProcess, operator_process
from support.recording import eventually

pytestmark = pytest.mark.cluster


# kopf waits so long for what it did not start, say a connection that is still open.
_KOPF_WAITS = 5
# A standby takes no sooner over from a leader that did not release its lease: it was renewed within the last 5 seconds,
# and lasts for 15.
_UNRELEASED = 10

Start = Callable[..., AbstractAsyncContextManager[OperatorProcess]]


@pytest.fixture
def no_definition(kubectl: Kubectl) -> None:
    remove_definition(kubectl)


@pytest.fixture
def definition(kubectl: Kubectl, no_definition: None) -> Iterator[None]:
    with definition_installed(kubectl):
        yield


@pytest.fixture
def start(cluster: Cluster, namespace: str, tmp_path: Path) -> Start:
    """Starts a replica by name; each has an address of its own."""

    @asynccontextmanager
    async def start(name: str, kubeconfig: Path = cluster.kubeconfig) -> AsyncIterator[OperatorProcess]:
        with own_address() as address:
            async with operator_process(kubeconfig, namespace, tmp_path, name=name, address=address) as process:
                yield process

    return start


@pytest.fixture
def lease(kubectl: Kubectl, namespace: str) -> Callable[[], dict[str, Any]]:
    """Reads the lease's spec; empty before there is one."""

    def lease() -> dict[str, Any]:
        found = kubectl.run("get", "lease", "neuron-operator", "-n", namespace, "-o", "yaml")
        return dict(yaml.safe_load(found.stdout)["spec"]) if found.returncode == 0 else {}

    return lease


Lease = Callable[[], dict[str, Any]]


async def _ready(replica: OperatorProcess) -> None:
    async def look() -> bool | None:
        assert replica.is_running(), replica.log()
        return await replica.answers("/readyz") == 200 or None

    await eventually("ready", look)


async def _leads(lease: Lease, name: str) -> None:
    async def look() -> bool | None:
        return lease().get("holderIdentity") == name or None

    await eventually(f"{name} leads", look)


@pytest.mark.usefixtures("definition")
async def test_a_leader_that_is_told_to_end_does_so_at_once_and_lets_the_next_one_lead(
    start: Start, lease: Lease
) -> None:
    async with start("first") as first, start("second") as second:
        await _ready(first)
        await _ready(second)
        await eventually("a leader", _leader_of(lease))
        leader, standby = (first, "second") if lease()["holderIdentity"] == "first" else (second, "first")

        leader.terminate()
        code, seconds = await leader.ended()
        ended = time.monotonic()

        await _leads(lease, standby)
        assert time.monotonic() - ended < _UNRELEASED
        assert (code, leader.complaints()) == (0, [])
        assert seconds < _KOPF_WAITS


@pytest.mark.usefixtures("definition")
async def test_a_standby_is_ready_and_ends_without_touching_the_lease(start: Start, lease: Lease) -> None:
    async with start("leader") as leader:
        await _leads(lease, "leader")
        async with start("standby") as standby:
            await _ready(standby)
            assert await standby.answers("/healthz") == 200

            async with standby.scraped():
                standby.terminate()
                code, seconds = await standby.ended()

            assert (code, standby.complaints()) == (0, [])
            assert seconds < _KOPF_WAITS
        assert lease()["holderIdentity"] == "leader"
        assert leader.is_running()


@pytest.mark.usefixtures("definition")
async def test_a_leader_whose_lease_another_holds_ends_and_leaves_it_to_the_other(
    start: Start, lease: Lease, kubectl: Kubectl, namespace: str
) -> None:
    async with start("leader") as leader:
        await _leads(lease, "leader")

        taken = '{"spec": {"holderIdentity": "thief"}}'
        kubectl("patch", "lease", "neuron-operator", "-n", namespace, "--type=merge", "--patch", taken)
        code, _ = await leader.ended()

        assert code == 1
        (line,) = leader.log("CRITICAL")
        assert "LeadershipLost" in line["traceback"]
        assert lease()["holderIdentity"] == "thief"


@pytest.mark.slow  # kopf tries again for about a minute before it gives up
@pytest.mark.usefixtures("definition")
async def test_a_leader_that_cannot_watch_ends_and_releases_its_lease(
    cluster: Cluster, kubectl: Kubectl, start: Start, lease: Lease, namespace: str, tmp_path: Path
) -> None:
    rules = [
        {"apiGroups": [kind.group], "resources": [kind.plural], "verbs": ["list", "watch"]}
        for kind in WATCHED
        if kind != POD
    ]
    rules += [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    ]
    kubeconfig, _ = limited_kubeconfig(cluster, kubectl, namespace, tmp_path, rules)
    async with start("blind", kubeconfig) as blind:
        code, _ = await blind.ended(150)

    assert code == 1
    (line,) = blind.log("CRITICAL")
    assert "WatchesEnded: kopf cannot watch any more" in line["traceback"]
    assert "pods is forbidden" in line["traceback"]
    assert (lease()["holderIdentity"], lease()["leaseTransitions"]) == ("", 0)


@pytest.mark.usefixtures("no_definition")
async def test_without_the_definition_it_says_what_to_install(start: Start, lease: Lease) -> None:
    async with start("early") as early:
        code, _ = await early.ended()

    assert code == 1
    (line,) = early.log("CRITICAL")
    assert "neuronmodels" in line["message"]
    assert "install the chart" in line["message"]
    assert lease() == {}


async def test_it_lets_itself_be_ended_while_it_waits_for_the_api_server(
    cluster: Cluster, start: Start, tmp_path: Path
) -> None:
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{deaf.getsockname()[1]}"
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_text(yaml.safe_dump(document))
        async with start("waiting", elsewhere) as waiting:

            async def look() -> bool | None:
                return await waiting.answers("/readyz") == 503 or None

            await eventually("not ready", look)

            waiting.terminate()
            # The request that it waits for has 60 seconds.
            code, _ = await waiting.ended(40)

    assert (code, waiting.log("CRITICAL")) == (0, [])


def _leader_of(lease: Lease) -> Callable[[], Any]:
    async def look() -> str | None:
        return lease().get("holderIdentity") or None

    return look
