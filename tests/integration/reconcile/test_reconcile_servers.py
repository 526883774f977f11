"""What serving pods report, and what follows from it."""

from __future__ import annotations

import pytest

from neuron_operator.api.objects import DEPLOYMENT, JOB, Manifest
from neuron_operator.loop.controller import Requeue
from neuron_runtime.contract.outcome import FailureCode
from support.artifact_store import ArtifactStore
from support.models import terminated
from support.reconciling import World, condition
from support.recording import eventually

pytestmark = pytest.mark.cluster


async def fail_server(
    world: World, deployment: Manifest, code: FailureCode, time: str = "2026-01-01T12:00:00Z"
) -> None:
    (pod,) = await world.pods_of(deployment)
    last = terminated(code, f"{code.value} is what I say", time=time)
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
    world.report(pod, {"restartCount": 1, "state": {"waiting": waiting}, "lastState": {"terminated": last}})
    await world.has_ready(deployment, 0)


async def test_a_damaged_artifact_is_told_with_its_place_and_stays(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    await fail_server(world, deployment, FailureCode.ARTIFACT_DAMAGED)
    status = await world.settle()
    assert status["phase"] == "Failed"
    assert condition(status, "Compiled") == ("False", "ArtifactDamaged")
    assert condition(status, "Ready") == ("False", "ArtifactDamaged")
    assert condition(status, "Stalled") == ("True", "ArtifactDamaged")
    assert status["artifact"]["uri"] in status["message"]
    assert "Delete the artifact" in status["message"]
    assert status["lastFailure"]["stage"] == "Serve"
    assert status["lastFailure"]["code"] == "ArtifactDamaged"
    assert await world.all(JOB) == []
    await world.make_ready(deployment)
    status = await world.settle()
    assert status["phase"] == "Ready"
    assert "lastFailure" not in status


async def test_an_artifact_that_is_gone_is_compiled_again(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    store.delete()
    await fail_server(world, deployment, FailureCode.ARTIFACT_MISSING)
    await world.reconcile()
    job = await world.one(JOB)
    status = await world.status()
    assert condition(status, "Compiled") == ("False", "JobPending")
    assert "artifact" not in status
    store.put()
    await world.end_job(None)
    await world.reconcile()
    await world.gone(JOB, [job["metadata"]["name"]])
    status = await world.settle()
    # The pod has not tried again yet: its report is answered, and not held against the artifact.
    assert condition(status, "Compiled") == ("True", "ArtifactFound")
    assert condition(status, "Ready") == ("False", "ArtifactMissing")
    assert condition(status, "Stalled") is None
    await world.make_ready(deployment)
    assert (await world.settle())["phase"] == "Ready"


async def test_who_misses_the_artifact_compiles_though_an_older_model_serves_it(
    world: World, store: ArtifactStore
) -> None:
    store.put()
    for name in ("older", "younger"):
        world.create_model(name)
        await world.reconcile(name)
        await world.make_ready((await world.all(DEPLOYMENT))[-1])
        assert (await world.settle(name))["phase"] == "Ready"
    store.delete()
    await fail_server(world, (await world.all(DEPLOYMENT))[-1], FailureCode.ARTIFACT_MISSING)
    await world.reconcile("younger")
    job = await world.one(JOB)
    assert job["metadata"]["labels"]["neuron-operator.dev/model"] == "younger"
    # Now that both miss it, the one that compiles is waited for, also between its attempts.
    await world.end_job(FailureCode.COMPILER_FAILED)
    await world.reconcile("younger")
    await fail_server(world, (await world.all(DEPLOYMENT))[0], FailureCode.ARTIFACT_MISSING)
    await world.reconcile("older")
    status = await world.status("older")
    assert condition(status, "Compiled") == ("False", "WaitingForSharedCompile")
    assert "NeuronModel younger compiles" in status["message"]
    await world.one(JOB)


async def test_an_artifact_that_is_gone_is_noticed_within_a_day(world: World, store: ArtifactStore) -> None:
    await world.serve(store)
    store.delete()
    outcome = await world.reconcile()
    waited = 0.0
    assert await world.all(JOB) == []
    # It is not all that a model is looked at for.
    while not await world.all(JOB):
        assert isinstance(outcome, Requeue)
        waited += outcome.after
        assert waited < 26.4 * 3600
        world.later(outcome.after)
        outcome = await world.reconcile()
    assert len(await world.all(JOB)) == 1
    assert condition(await world.status(), "Compiled") == ("False", "JobPending")
    assert condition(await world.status(), "Available") == ("True", "ReplicasReady")


async def test_a_damaged_artifact_that_was_deleted_is_compiled_again(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    store.delete()
    await fail_server(world, deployment, FailureCode.ARTIFACT_DAMAGED)
    await world.reconcile()
    assert len(await world.all(JOB)) == 1


async def test_a_source_that_is_gone_is_put_back_by_a_job(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    store.delete_source()
    await fail_server(world, deployment, FailureCode.SOURCE_MISSING)
    await world.reconcile()
    await world.one(JOB)
    store.put()
    await world.end_job(None)
    await world.reconcile()
    status = await world.settle()
    assert condition(status, "Compiled") == ("True", "ArtifactFound")
    assert condition(status, "Ready") == ("False", "SourceMissing")
    assert status["lastFailure"]["code"] == "SourceMissing"


async def test_a_damaged_source_is_told_and_is_not_blamed_on_the_artifact(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    await fail_server(world, deployment, FailureCode.SOURCE_DAMAGED)
    status = await world.settle()
    assert condition(status, "Compiled") == ("True", "ArtifactReused")
    assert condition(status, "Ready") == ("False", "SourceDamaged")
    assert "Delete the source snapshot" in status["message"]


async def test_a_server_that_cannot_be_scheduled_says_what_it_waits_for(world: World, store: ArtifactStore) -> None:
    store.put()
    world.create_model()
    await world.reconcile()
    (pod,) = await world.pods_of(await world.one(DEPLOYMENT))

    async def refused() -> bool | None:
        live = world.kubectl.json("get", "pod", pod["metadata"]["name"], "-n", world.namespace)
        conditions = live["status"].get("conditions") or []
        return True if any(found.get("reason") == "Unschedulable" for found in conditions) else None

    await eventually("the scheduler has looked", refused)
    status = await world.settle()
    assert condition(status, "Ready") == ("False", "Unschedulable")
    assert status["waitingFor"]["reason"] == "Unschedulable"
    assert "serving.resources" in status["waitingFor"]["message"]
    assert condition(status, "Reconciling") == ("True", "Unschedulable")
