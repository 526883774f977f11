"""One compile for all who want the same artifact."""

from __future__ import annotations

import asyncio

import pytest

from neuron_operator.api.objects import JOB, Manifest, uid_of
from neuron_operator.loop.controller import Requeue
from neuron_runtime.contract.outcome import FailureCode
from support.artifact_store import ArtifactStore
from support.reconciling import World, condition

pytestmark = pytest.mark.cluster


async def test_a_second_model_of_equal_inputs_waits_for_the_first(world: World, store: ArtifactStore) -> None:
    world.create_model("first")
    await world.reconcile("first")
    world.create_model("second")
    assert isinstance(await world.reconcile("second"), Requeue)
    job = await world.one(JOB)
    assert job["metadata"]["labels"]["neuron-operator.dev/model"] == "first"
    status = await world.status("second")
    assert condition(status, "Compiled") == ("False", "WaitingForSharedCompile")
    assert "first" in status["message"]
    store.put()
    await world.end_job(None)
    await world.reconcile("second")
    status = await world.status("second")
    assert status["artifact"]["reused"] is True
    await world.reconcile("first")
    assert (await world.status("first"))["artifact"]["reused"] is False


async def test_who_waits_asks_the_store_only_when_a_job_has_ended(world: World, store: ArtifactStore) -> None:
    world.create_model("first")
    await world.reconcile("first")
    await world.end_job(FailureCode.COMPILER_FAILED)
    await world.reconcile("first")
    world.create_model("second")
    await world.reconcile("second")
    asked = world.artifacts.asked
    for _ in range(3):
        outcome = await world.reconcile("second")
        assert isinstance(outcome, Requeue)
        assert outcome.after >= 60
    assert world.artifacts.asked == asked
    world.later(60)
    await world.reconcile("first")
    # Found and served before the second looked.
    store.put()
    await world.end_job(None)
    await world.reconcile("first")
    await world.reconcile("second")
    assert condition(await world.status("second"), "Compiled") == ("True", "ArtifactReused")
    world.kubectl("delete", "deployment", "--all", "-n", world.namespace)
    await world.reconcile("first")
    assert (await world.status("first"))["artifact"]["reused"] is False


async def test_the_flight_passes_on_when_its_holder_is_deleted(world: World, store: ArtifactStore) -> None:
    world.create_model("first")
    await world.reconcile("first")
    world.create_model("second")
    await world.reconcile("second")
    job = await world.one(JOB)
    world.kubectl("delete", "nm", "first", "-n", world.namespace)
    await world.gone(JOB, [job["metadata"]["name"]])
    await world.reconcile("second")
    assert (await world.one(JOB))["metadata"]["labels"]["neuron-operator.dev/model"] == "second"
    assert condition(await world.status("second"), "Compiled") == ("False", "JobPending")


async def test_a_job_on_its_way_to_the_api_server_holds_the_flight(world: World, store: ArtifactStore) -> None:
    for name in ("first", "second"):
        world.create_model(name)
    models = [(await world.model(name))["metadata"] for name in ("first", "second")]
    older, younger = sorted(models, key=lambda metadata: (metadata["creationTimestamp"], metadata["uid"]))
    sending, sent = asyncio.Event(), asyncio.Event()

    async def hold(manifest: Manifest) -> None:
        if manifest["kind"] == "Job":
            sending.set()
            await sent.wait()

    world.counting.before_create = hold
    await world.look()
    slow = asyncio.create_task(world.reconcile_now(younger["name"]))
    await sending.wait()
    # The older one would be the holder by its age, and knows of no Job.
    quick = asyncio.create_task(world.reconcile_now(older["name"]))
    await asyncio.wait([quick], timeout=1)
    sent.set()
    await asyncio.gather(slow, quick)
    assert (await world.one(JOB))["metadata"]["labels"]["neuron-operator.dev/model"] == younger["name"]
    assert condition(await world.status(older["name"]), "Compiled") == ("False", "WaitingForSharedCompile")


async def test_a_job_that_others_wait_for_outlives_its_spec(world: World, store: ArtifactStore) -> None:
    world.create_model("first")
    await world.reconcile("first")
    world.create_model("second")
    await world.reconcile("second")
    job = await world.one(JOB)
    world.edit({"shapes": {"maxBatchSize": 2}}, "first")
    await world.settle("first")
    await world.settle("second")
    jobs = {uid_of(found): found for found in await world.all(JOB)}
    assert len(jobs) == 2
    assert uid_of(job) in jobs
    assert condition(await world.status("second"), "Compiled") == ("False", "WaitingForSharedCompile")
    world.kubectl("delete", "nm", "second", "-n", world.namespace)
    await world.reconcile("first")
    await world.gone(JOB, [job["metadata"]["name"]])
    assert len(await world.all(JOB)) == 1


async def test_the_flight_passes_on_when_its_holder_cannot_create_a_job(world: World, store: ArtifactStore) -> None:
    world.create_model("first")
    await world.reconcile("first")
    job = await world.one(JOB)
    world.kubectl("delete", "job", job["metadata"]["name"], "-n", world.namespace)
    taken = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job["metadata"]["name"], "namespace": world.namespace},
        "spec": {"template": job["spec"]["template"] | {"metadata": {}}},
    }
    world.kubectl("create", "-f", "-", document=taken)
    await world.reconcile("first")
    assert condition(await world.status("first"), "Compiled") == ("False", "Conflict")
    world.create_model("second")
    await world.reconcile("second")
    assert (await world.one(JOB))["metadata"]["labels"]["neuron-operator.dev/model"] == "second"
    await world.reconcile("first")
    assert condition(await world.status("first"), "Compiled") == ("False", "WaitingForSharedCompile")
    store.put()
    await world.end_job(None)
    await world.reconcile("first")
    assert condition(await world.status("first"), "Compiled") == ("True", "ArtifactReused")


async def test_more_memory_is_tried_where_another_model_ran_out_of_it(world: World, store: ArtifactStore) -> None:
    world.create_model("first")
    await world.reconcile("first")
    await world.end_job(FailureCode.OUT_OF_MEMORY, "killed at 8 GiB")
    world.create_model("like-first")
    await world.reconcile("like-first")
    message = (await world.status("like-first"))["message"]
    assert "killed at 8 GiB" in message
    assert "compile.resources" in message
    assert len(await world.all(JOB)) == 1
    world.create_model("larger", compile={"resources": {"requests": {"cpu": "1000", "memory": "64Gi"}}})
    await world.reconcile("larger")
    assert [job["metadata"]["labels"]["neuron-operator.dev/model"] for job in await world.all(JOB)] == [
        "first",
        "larger",
    ]
    await world.reconcile("like-first")
    assert condition(await world.status("like-first"), "Compiled") == ("False", "WaitingForSharedCompile")


async def test_a_failure_of_ones_own_passes_the_flight_on_and_its_artifact_is_shared(
    world: World, store: ArtifactStore
) -> None:
    world.create_model("first")
    await world.reconcile("first")
    world.create_model("second")
    await world.reconcile("second")
    await world.end_job(FailureCode.STORE_ACCESS_DENIED, "s3:PutObject is denied")
    await world.reconcile("first")
    assert condition(await world.status("first"), "Compiled") == ("False", "CompileFailed")
    await world.reconcile("second")
    assert [job["metadata"]["labels"]["neuron-operator.dev/model"] for job in await world.all(JOB)] == [
        "first",
        "second",
    ]
    store.put()
    await world.end_job(None)
    await world.reconcile("second")
    await world.reconcile("first")
    assert condition(await world.status("first"), "Compiled") == ("True", "ArtifactReused")
    assert condition(await world.status("second"), "Compiled") == ("True", "ArtifactFound")
