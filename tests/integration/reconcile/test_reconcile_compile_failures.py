"""Failed compiles: what is tried again, and what the status says of it."""

from __future__ import annotations

import pytest

from neuron_operator.api.objects import JOB
from neuron_operator.loop.controller import Requeue
from neuron_runtime.contract.outcome import FailureCode
from support.artifact_store import ArtifactStore
from support.reconciling import World, condition

pytestmark = pytest.mark.cluster


async def test_a_failed_compile_is_tried_again_until_it_gives_up(world: World, store: ArtifactStore) -> None:
    world.create_model(compile={"retry": {"maxAttempts": 2}, "resources": {"requests": {"cpu": "1000"}}})
    await world.reconcile()
    await world.end_job(FailureCode.COMPILER_FAILED, "g++ was not amused")
    assert await world.reconcile() == Requeue(10)
    status = await world.status()
    assert condition(status, "Compiled") == ("False", "RetryPending")
    assert condition(status, "Reconciling") == ("True", "RetryPending")
    failure = status["lastFailure"]
    assert (failure["stage"], failure["code"], failure["message"]) == (
        "Compile",
        "CompilerFailed",
        "g++ was not amused",
    )
    assert (failure["attempt"], failure["exitCode"], failure["retryable"]) == (1, 1, True)
    assert failure["remedy"]
    world.later(4)
    assert await world.reconcile() == Requeue(6)
    assert len(await world.all(JOB)) == 1
    world.later(6)
    await world.reconcile()
    assert len(await world.all(JOB)) == 2
    assert (await world.status())["compile"]["attempt"] == 2
    assert (await world.status())["lastFailure"]["attempt"] == 1
    await world.end_job(FailureCode.COMPILER_FAILED, "g++ was not amused")
    world.later(3600)
    status = await world.settle()
    assert condition(status, "Compiled") == ("False", "CompileFailed")
    assert condition(status, "Stalled") == ("True", "CompileFailed")
    assert status["phase"] == "Failed"
    assert status["lastFailure"]["retryable"] is False
    assert "g++ was not amused" in status["message"]
    assert len(await world.all(JOB)) == 2
    # The way out that the message names.
    world.kubectl("delete", "job", "--all", "-n", world.namespace)
    await world.reconcile()
    assert (await world.status())["compile"]["attempt"] == 1
    assert len(await world.all(JOB)) == 1


async def test_a_failure_that_lies_in_the_inputs_is_not_tried_again(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.reconcile()
    await world.end_job(FailureCode.OUT_OF_MEMORY, "killed")
    world.later(3600)
    status = await world.settle()
    assert condition(status, "Compiled") == ("False", "CompileFailed")
    assert "compile.resources" in status["message"]
    world.edit({"compile": {"resources": {"requests": {"memory": "9Gi"}}}})
    await world.reconcile()
    assert len(await world.all(JOB)) == 2
    assert condition(await world.status(), "Compiled") == ("False", "JobPending")


async def test_what_somebody_outside_mends_is_tried_again_by_itself(world: World, store: ArtifactStore) -> None:
    world.create_model(compile={"retry": {"maxAttempts": 1}, "resources": {"requests": {"cpu": "1000"}}})
    for attempt in (1, 2):
        await world.reconcile()
        assert (await world.status())["compile"]["attempt"] == attempt
        await world.end_job(FailureCode.STORE_BUCKET_NOT_FOUND, "bucket artifacts does not exist")
        assert await world.reconcile() == Requeue(300)
        status = await world.status()
        assert condition(status, "Stalled") == ("True", "CompileFailed")
        assert status["phase"] == "Failed"
        assert "Create the bucket" in status["message"]
        assert "tried again" in status["message"]
        assert status["lastFailure"]["retryable"] is True
        world.later(299)
        assert await world.reconcile() == Requeue(1)
        assert await world.status() == status
        assert len(await world.all(JOB)) == attempt
        world.later(1)
    await world.reconcile()
    assert len(await world.all(JOB)) == 3
    assert condition(await world.status(), "Compiled") == ("False", "JobPending")


async def test_a_job_that_gets_no_pod_says_where_to_look(world: World, store: ArtifactStore) -> None:
    world.create_model()
    world.kubectl("create", "quota", "none", "--hard=pods=0", "-n", world.namespace)
    await world.reconcile()
    job = await world.one(JOB)
    outcome = await world.reconcile()
    assert isinstance(outcome, Requeue)
    assert "waitingFor" not in await world.status()
    world.later(outcome.after + 1)
    status = await world.settle()
    assert condition(status, "Compiled") == ("False", "JobPending")
    assert f"kubectl describe job {job['metadata']['name']}" in status["waitingFor"]["message"]


async def test_at_most_three_failed_jobs_are_kept(world: World, store: ArtifactStore) -> None:
    world.create_model()
    for attempt in range(1, 6):
        await world.reconcile()
        assert (await world.status())["compile"]["attempt"] == attempt
        await world.end_job(FailureCode.SOURCE_UNREACHABLE, "no route")
        world.later(301)
    await world.reconcile()
    await world.reconcile()
    attempts = {job["metadata"]["annotations"]["neuron-operator.dev/attempt"] for job in await world.all(JOB)}
    assert attempts == {"3", "4", "5", "6"}


async def test_a_job_that_leaves_no_artifact_has_failed(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.reconcile()
    await world.end_job(None)
    await world.reconcile()
    status = await world.status()
    assert condition(status, "Compiled") == ("False", "RetryPending")
    assert status["lastFailure"]["code"] == "ArtifactMissing"
