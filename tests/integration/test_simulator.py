"""The workload simulator on a real API server: what it writes is what the API server takes from controllers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest

from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.simulator import BUILT_IN, ContainerEnd, Delays, Simulator, simulated_workloads
from support.kubectl import Kubectl
from support.recording import eventually

pytestmark = pytest.mark.cluster

Simulated = Callable[..., AbstractAsyncContextManager[Simulator]]

_TEMPLATE = {
    "metadata": {"labels": {"app": "some"}},
    "spec": {"containers": [{"name": "main", "image": "none"}], "automountServiceAccountToken": False},
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server beside which nothing acts on objects."""
    cluster = Cluster(tmp_path_factory.mktemp("bare"), nodes=[], controllers=False)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down(purge=True)


@pytest.fixture(scope="module")
def bare(plane: Cluster) -> Kubectl:
    kubectl = Kubectl(ensure_binaries().kubectl, plane.kubeconfig)
    kubectl("create", "serviceaccount", "default")
    return kubectl


@pytest.fixture
def simulated(plane: Cluster) -> Simulated:
    return partial(simulated_workloads, plane.kubeconfig)


def _job(name: str, **metadata: Any) -> dict[str, Any]:
    template = {**_TEMPLATE, "spec": {**_TEMPLATE["spec"], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **metadata},
        "spec": {"backoffLimit": 0, "template": template},
    }


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "some"}}, "template": _TEMPLATE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


async def _once(kubectl: Kubectl, what: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    kind, name = what.split("/")

    async def look() -> dict[str, Any] | None:
        found: dict[str, Any] = kubectl.json("get", kind, name)
        return found if is_so(found) else None

    return await eventually(what, look)


def _has(condition: str) -> Callable[[dict[str, Any]], bool]:
    def is_so(found: dict[str, Any]) -> bool:
        conditions = found.get("status", {}).get("conditions", [])
        return any(item["type"] == condition and item["status"] == "True" for item in conditions)

    return is_so


async def test_a_job_ends_as_it_is_told_to_and_its_pod_says_why(bare: Kubectl, simulated: Simulated) -> None:
    asked: list[str] = []

    async def ends(job: dict[str, Any]) -> ContainerEnd:
        asked.append(job["metadata"]["name"])
        return ContainerEnd() if job["metadata"]["name"] == "good" else ContainerEnd(3, "it broke")

    for name in ("good", "bad"):
        bare("create", "-f", "-", document=_job(name))
    async with simulated(job_ends=ends):
        good = await _once(bare, "job/good", _has("Complete"))
        bad = await _once(bare, "job/bad", _has("Failed"))

        assert good["status"]["succeeded"] == 1
        assert good["status"]["completionTime"] >= good["status"]["startTime"]
        assert bad["status"]["failed"] == 1
        pods = {
            pod["metadata"]["ownerReferences"][0]["uid"]: pod
            for pod in bare.json("get", "pods", "-l", "job-name in (good,bad)")["items"]
        }
        assert pods[good["metadata"]["uid"]]["status"]["phase"] == "Succeeded"
        failed = pods[bad["metadata"]["uid"]]
        assert failed["metadata"]["labels"]["app"] == "some"
        state = failed["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (state["exitCode"], state["message"]) == (3, "it broke")
        assert sorted(asked) == ["bad", "good"]


async def test_a_job_that_takes_its_time_is_seen_to_run(bare: Kubectl, simulated: Simulated) -> None:
    async with simulated(delays=Delays(run=60)):
        bare("create", "-f", "-", document=_job("long"))

        job = await _once(bare, "job/long", lambda found: found.get("status", {}).get("active") == 1)

        assert "conditions" not in job["status"]
        (pod,) = bare.json("get", "pods", "-l", "job-name=long")["items"]
        assert pod["status"]["phase"] == "Running"


async def test_a_deployment_follows_its_replicas_and_its_pods_come_back(bare: Kubectl, simulated: Simulated) -> None:
    def ready(count: int) -> Callable[[dict[str, Any]], bool]:
        def is_so(found: dict[str, Any]) -> bool:
            status = found.get("status", {})
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            return seen and status.get("readyReplicas", 0) == status.get("replicas", 0) == count

        return is_so

    async def pods(count: int, other_than: Sequence[str] = ()) -> list[str]:
        async def look() -> list[str] | None:
            found = bare.json("get", "pods", "-l", "app=some,pod-template-hash")["items"]
            answering = [pod["metadata"]["uid"] for pod in found if _has("Ready")(pod)]
            is_so = len(answering) == len(found) == count and not set(answering) & set(other_than)
            return answering if is_so else None

        return await eventually(f"{count} pods", look)

    async with simulated(deployment_pods=True):
        bare("create", "-f", "-", document=_deployment("web", 2))
        await _once(bare, "deployment/web", ready(2))
        before = await pods(2)

        bare("delete", "pod", "--all", "--wait=false")
        await pods(2, other_than=before)

        bare("scale", "deployment/web", "--replicas=0")
        await _once(bare, "deployment/web", ready(0))
        assert await pods(0) == []


async def test_servers_that_do_not_start_are_not_ready_until_they_do(bare: Kubectl, simulated: Simulated) -> None:
    ends: list[ContainerEnd | None] = [ContainerEnd(7, "no artifact")]

    async def start(deployment: dict[str, Any]) -> ContainerEnd | None:
        return ends[-1]

    async with simulated(server_starts=start, deployment_pods=True) as simulator:
        bare("create", "-f", "-", document=_deployment("broken", 1))
        broken = await _once(bare, "deployment/broken", lambda found: found.get("status", {}).get("replicas") == 1)
        assert not _has("Available")(broken)
        (pod,) = bare.json("get", "pods", "-l", "app=some,pod-template-hash")["items"]
        assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"] == "no artifact"

        ends.append(None)
        simulator.start_servers_again()

        await _once(bare, "deployment/broken", _has("Available"))


async def test_what_an_owner_leaves_behind_is_deleted_and_what_still_has_one_is_not(
    bare: Kubectl, simulated: Simulated
) -> None:
    async with simulated(garbage=BUILT_IN):
        for name in ("owner", "other"):
            bare("create", "-f", "-", document=_job(name))
        uids = {name: bare.json("get", "job", name)["metadata"]["uid"] for name in ("owner", "other")}

        def owned_by(name: str) -> dict[str, Any]:
            return {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uids[name]}

        for name, owners in (("one", ["owner"]), ("both", ["owner", "other"])):
            service = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "ownerReferences": [owned_by(owner) for owner in owners]},
                "spec": {"ports": [{"port": 80}]},
            }
            bare("create", "-f", "-", document=service)
        await _once(bare, "job/owner", _has("Complete"))

        bare("delete", "job", "owner", "--wait=false")

        async def gone() -> bool | None:
            found = bare.run("get", "service/one", "pods", "-l", "job-name=owner", "-o", "name")
            names = bare("get", "services,pods", "-o", "name").split()
            return True if found is not None and not _left_of_owner(names) else None

        await eventually("collected", gone)
        bare("get", "service", "both")

        bare("delete", "job", "other", "--cascade=foreground", "--wait=false")

        async def all_gone() -> bool | None:
            return bare.run("get", "job", "other").returncode != 0 or None

        await eventually("deleted", all_gone)
        assert bare.run("get", "service", "both").returncode != 0


def _left_of_owner(names: list[str]) -> bool:
    return any(name == "service/one" or name.startswith("pod/owner-") for name in names)
