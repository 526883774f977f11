"""Whose compile Job makes an artifact that several models want, when the one that was to make it no longer can."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from neuron_operator.api.objects import CONTROLLER_REVISION, JOB, Manifest, uid_of
from neuron_operator.errors import Conflict
from neuron_operator.loop.controller import Done
from neuron_operator.settings import ArtifactSharing
from neuron_runtime.contract.outcome import FailureCode
from support.artifact_store import BUCKET, ArtifactStore
from support.hub import Hub
from support.kubectl import Kubectl
from support.models import SETTINGS, waiting
from support.reconciling import World, condition
from support.recording import eventually

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster

# A pod that does not get to run holds the flight this long.
_HOPEFUL_SECONDS = 300
_LARGER = {"compile": {"resources": {"requests": {"cpu": "2000"}}}}


@pytest.fixture
def other_namespace(namespace: str, kubectl: Kubectl) -> Iterator[str]:
    name = f"{namespace}-b"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def neighbor(world: World, other_namespace: str) -> World:
    """Another namespace, with which artifacts are shared by decision of the platform."""
    world.restart(SETTINGS.model_copy(update={"artifact_sharing": ArtifactSharing.CLUSTER}))
    return world.beside(other_namespace)


@pytest.fixture
def shared(world: World, s3: S3Client, hub: Hub) -> ArtifactStore:
    """The store that both namespaces share."""
    return ArtifactStore(s3, world.namespace, hub.digest, shared_prefix=world.namespace)


def _prefixed(world: World) -> dict[str, Any]:
    return {"artifactStore": {"s3": {"bucket": BUCKET, "prefix": world.namespace}}}


async def _both_want(world: World, **second: Any) -> Manifest:
    """Two models of equal inputs, of which the first compiles; returns its Job."""
    world.create_model("first")
    await world.reconcile("first")
    world.create_model("second", **second)
    await world.reconcile("second")
    assert condition(await world.status("second"), "Compiled") == ("False", "WaitingForSharedCompile")
    return await world.one(JOB)


async def _compilers(world: World) -> list[str]:
    """Models whose Jobs are there, by name."""
    return sorted(job["metadata"]["labels"]["neuron-operator.dev/model"] for job in await world.all(JOB))


async def _is_unschedulable(world: World, job: Manifest) -> None:
    (pod,) = await world.pods_of(job)

    async def look() -> bool | None:
        live = world.kubectl.json("get", "pod", pod["metadata"]["name"], "-n", world.namespace)
        conditions = live["status"].get("conditions") or []
        return True if any(found.get("reason") == "Unschedulable" for found in conditions) else None

    await eventually("the scheduler has looked", look)


async def test_namespaces_share_one_compile_where_the_platform_shares_artifacts(
    world: World, neighbor: World, shared: ArtifactStore
) -> None:
    world.create_model("first", **_prefixed(world))
    await world.reconcile("first")
    neighbor.create_model("second", **_prefixed(world))
    await neighbor.reconcile("second")
    status = await neighbor.status("second")
    assert condition(status, "Compiled") == ("False", "WaitingForSharedCompile")
    assert f"{world.namespace}/first" in status["message"]
    assert await neighbor.all(JOB) == []
    shared.put()
    await world.end_job(None)
    await neighbor.reconcile("second")
    await world.reconcile("first")
    assert condition(await neighbor.status("second"), "Compiled") == ("True", "ArtifactReused")
    assert condition(await world.status("first"), "Compiled") == ("True", "ArtifactFound")
    uris = {(await each.status(name))["artifact"]["uri"] for each, name in ((world, "first"), (neighbor, "second"))}
    assert len(uris) == 1


async def test_namespaces_compile_for_themselves_where_the_platform_does_not_share(
    world: World, other_namespace: str
) -> None:
    neighbor = world.beside(other_namespace)
    for each in (world, neighbor):
        each.create_model(**_prefixed(world))
        await each.reconcile()
        assert condition(await each.status(), "Compiled") == ("False", "JobPending")
        await each.one(JOB)
    mine, theirs = await world.one(JOB), await neighbor.one(JOB)
    assert mine["metadata"]["labels"] == theirs["metadata"]["labels"]


async def test_the_flight_passes_on_when_its_holders_namespace_ends(
    world: World, neighbor: World, shared: ArtifactStore
) -> None:
    neighbor.create_model("first", **_prefixed(world))
    # Its finalizer stands for whatever keeps a namespace from ending.
    neighbor.patch("nm", "first", {"metadata": {"finalizers": ["example.com/hold"]}})
    try:
        world.create_model("second", **_prefixed(world))
        neighbor.kubectl("delete", "namespace", neighbor.namespace, "--wait=false")
        await neighbor.reconcile("first")
        await world.reconcile("second")
        assert await _compilers(world) == ["second"]
    finally:
        neighbor.patch("nm", "first", {"metadata": {"finalizers": None}})


async def test_who_cannot_create_in_its_ending_namespace_is_not_waited_for(
    world: World, neighbor: World, shared: ArtifactStore
) -> None:
    neighbor.create_model("first", **_prefixed(world))
    await neighbor.reconcile("first")
    world.create_model("second", **_prefixed(world))
    await world.reconcile("second")
    assert await _compilers(world) == []
    neighbor.kubectl("delete", "job", "--all", "-n", neighbor.namespace)
    # That the model is on its way out has not been heard of yet.
    await world.look()
    neighbor.kubectl("delete", "namespace", neighbor.namespace, "--wait=false")
    assert await neighbor.reconcile_now("first") == Done()
    await world.reconcile_now("second")
    assert await _compilers(world) == ["second"]


async def test_the_flight_passes_on_when_its_holder_is_suspended(world: World, store: ArtifactStore) -> None:
    job = await _both_want(world)
    world.edit({"suspend": True}, "first")
    await world.reconcile("first")
    await world.gone(JOB, [job["metadata"]["name"]])
    await world.reconcile("second")
    assert await _compilers(world) == ["second"]
    # Back again, it waits like everybody.
    world.edit({"suspend": False}, "first")
    await world.reconcile("first")
    assert condition(await world.status("first"), "Compiled") == ("False", "WaitingForSharedCompile")


async def test_a_failure_that_lies_in_the_inputs_counts_for_all(world: World, store: ArtifactStore) -> None:
    await _both_want(world, **_LARGER)
    await world.end_job(FailureCode.UNSUPPORTED_MODEL, "no such layer")
    await world.reconcile("first")
    await world.reconcile("second")
    assert await _compilers(world) == ["first"]
    for name in ("first", "second"):
        status = await world.status(name)
        assert condition(status, "Compiled") == ("False", "CompileFailed")
        assert "no such layer" in status["message"]
    message = (await world.status("second"))["message"]
    assert "NeuronModel first" in message
    assert "Deleting the Job of NeuronModel first tries again" in message


OWN = [
    FailureCode.SOURCE_ACCESS_DENIED,
    FailureCode.SOURCE_TOKEN_MISSING,
    FailureCode.SOURCE_CHANGED,
    FailureCode.STORE_ACCESS_DENIED,
]


@pytest.mark.parametrize("code", OWN)
async def test_a_failure_of_ones_own_passes_the_flight_on(
    world: World, store: ArtifactStore, code: FailureCode
) -> None:
    await _both_want(world)
    await world.end_job(code)
    await world.reconcile("second")
    assert await _compilers(world) == ["first", "second"]
    await world.reconcile("first")
    assert len(await world.all(JOB)) == 2


async def test_a_pod_that_no_node_takes_passes_the_flight_to_who_asks_for_something_else(
    world: World, store: ArtifactStore
) -> None:
    job = await _both_want(world, **_LARGER)
    world.create_model("alike")
    await _is_unschedulable(world, job)
    for name in ("second", "alike"):
        await world.reconcile(name)
    assert await _compilers(world) == ["first"]
    world.later(_HOPEFUL_SECONDS + 60)
    # Its pod would be taken by no node, either.
    await world.reconcile("alike")
    assert "NeuronModel second" in (await world.status("alike"))["message"]
    assert await _compilers(world) == ["first"]
    await world.reconcile("second")
    assert await _compilers(world) == ["first", "second"]
    # Whichever runs first is the one that goes on.
    await _runs(world, "second")
    await world.reconcile("first")
    await world.gone(JOB, [job["metadata"]["name"]])
    status = await world.status("first")
    assert condition(status, "Compiled") == ("False", "WaitingForSharedCompile")
    assert "NeuronModel second compiles" in status["message"]
    store.put()
    await world.end_job(None)
    await world.reconcile("first")
    assert condition(await world.status("first"), "Compiled") == ("True", "ArtifactReused")


async def test_who_would_fare_no_better_waits_and_says_for_what(world: World, store: ArtifactStore) -> None:
    job = await _both_want(world)
    await _is_unschedulable(world, job)
    world.later(_HOPEFUL_SECONDS + 60)
    await world.reconcile("second")
    status = await world.status("second")
    assert condition(status, "Compiled") == ("False", "WaitingForSharedCompile")
    assert status["waitingFor"]["reason"] == "Unschedulable"
    assert "NeuronModel first" in status["waitingFor"]["message"]
    assert "No node takes the pod" in status["waitingFor"]["message"]
    assert await _compilers(world) == ["first"]


async def test_an_image_that_cannot_be_pulled_passes_the_flight_on(world: World, store: ArtifactStore) -> None:
    job = await _both_want(world)
    (pod,) = await world.pods_of(job)
    world.report(pod, waiting("ImagePullBackOff", "no such image"), phase="Pending")
    await world.reconcile("second")
    assert await _compilers(world) == ["first"]
    world.later(_HOPEFUL_SECONDS + 60)
    await world.reconcile("second")
    assert await _compilers(world) == ["first", "second"]
    # Its image is there after all, before the other one got to run.
    await _runs(world, "first")
    await world.reconcile("second")
    assert await _compilers_alive(world) == ["first"]


async def test_a_job_that_gets_no_pod_passes_the_flight_on(
    world: World, neighbor: World, shared: ArtifactStore
) -> None:
    neighbor.kubectl("create", "quota", "none", "--hard=pods=0", "-n", neighbor.namespace)
    neighbor.create_model("first", **_prefixed(world))
    await neighbor.reconcile("first")
    world.create_model("second", **_prefixed(world))
    await world.reconcile("second")
    assert await _compilers(world) == []
    world.later(_HOPEFUL_SECONDS + 60)
    await world.reconcile("second")
    assert await _compilers(world) == ["second"]
    # What the other has compiled is taken, and the Job that never began goes.
    shared.put()
    await world.end_job(None)
    await neighbor.reconcile("first")
    assert condition(await neighbor.status("first"), "Compiled") == ("True", "ArtifactReused")
    await neighbor.gone(JOB, [job["metadata"]["name"] for job in await neighbor.all(JOB)])


async def test_other_resources_are_given_to_a_job_that_has_not_begun(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.reconcile()
    job = await world.one(JOB)
    await _is_unschedulable(world, job)
    world.edit(_LARGER)
    await world.reconcile()
    await world.gone(JOB, [job["metadata"]["name"]])
    await world.reconcile()
    again = await world.one(JOB)
    (container,) = again["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "2k"
    assert (await world.status())["compile"]["attempt"] == 1


async def test_resources_of_a_job_that_runs_are_left_alone(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.reconcile()
    await _runs(world, "llama")
    world.edit(_LARGER)
    await world.reconcile()
    assert await _compilers_alive(world) == ["llama"]
    assert condition(await world.status(), "Compiled") == ("False", "JobRunning")


async def test_of_two_operators_one_creates_the_job_and_the_other_finds_it(world: World, store: ArtifactStore) -> None:
    rival = world.rival(SETTINGS)
    world.create_model()
    # Both have seen the model, and neither what the other does.
    await world.look()
    await rival.look()
    await world.reconcile_now("llama")
    with pytest.raises(Conflict):
        await rival.reconcile_now("llama")
    job = await world.one(JOB)
    await rival.reconcile()
    await world.reconcile()
    assert uid_of(await world.one(JOB)) == uid_of(job)
    assert len(await world.all(CONTROLLER_REVISION)) == 1
    assert (await world.status())["compile"]["job"] == job["metadata"]["name"]


async def _runs(world: World, model: str) -> None:
    """Let the pod of a model's only Job run."""
    jobs = [job for job in await world.all(JOB) if job["metadata"]["labels"]["neuron-operator.dev/model"] == model]
    (job,) = jobs
    (pod,) = await world.pods_of(job)
    world.report(pod, {"state": {"running": {}}})


async def _compilers_alive(world: World) -> list[str]:
    jobs = [job for job in await world.all(JOB) if "deletionTimestamp" not in job["metadata"]]
    return sorted(job["metadata"]["labels"]["neuron-operator.dev/model"] for job in jobs)
