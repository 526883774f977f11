"""The way to an artifact: found in the store, or compiled by one Job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiohttp import web

from neuron_operator.api.objects import DEPLOYMENT, JOB
from neuron_operator.loop.controller import Done, Requeue
from neuron_runtime.contract.progress import PROGRESS_PORT, Progress, Stage
from neuron_runtime.contract.store import MANIFEST
from support.addresses import own_address
from support.artifact_store import BUCKET, ArtifactStore
from support.hub import Hub
from support.reconciling import World, condition, selected

pytestmark = pytest.mark.cluster


async def test_the_first_reconcile_decides_writes_it_down_and_starts_one_job(
    world: World, store: ArtifactStore, hub: Hub
) -> None:
    world.create_model()
    outcome = await world.reconcile()
    assert world.writes == [
        "create ControllerRevision",
        "apply ServiceAccount",
        "apply ServiceAccount",
        "create Job",
        "status",
    ]
    assert outcome == Done()
    revision = await world.revision()
    assert revision.record.source.commit == hub.commit
    assert revision.record.artifact_digest == store.request.digest
    job = await world.one(JOB)
    status = await world.status()
    assert status["observedGeneration"] == 1
    assert status["phase"] == "Compiling"
    assert condition(status, "Ready") == ("False", "JobPending")
    assert condition(status, "SourceResolved") == ("True", "Resolved")
    assert condition(status, "Planned") == ("True", "Planned")
    assert condition(status, "Compiled") == ("False", "JobPending")
    assert condition(status, "Reconciling") == ("True", "JobPending")
    assert condition(status, "Stalled") is None
    assert status["compile"] == {"job": job["metadata"]["name"], "attempt": 1, "maxAttempts": 3}
    assert status["revisions"] == {"target": revision.name}
    assert world.events.recorded == [("Normal", "JobPending")]


async def test_a_reconcile_with_nothing_new_writes_nothing(world: World, store: ArtifactStore, hub: Hub) -> None:
    world.create_model()
    await world.settle()
    asked = len(hub.asked)
    for _ in range(3):
        await world.reconcile()
    assert world.writes == []
    assert len(hub.asked) == asked
    assert len(await world.all(JOB)) == 1


async def test_a_known_artifact_is_served_without_a_job(world: World, store: ArtifactStore) -> None:
    store.put()
    world.create_model()
    await world.reconcile()
    assert "create Job" not in world.writes
    status = await world.status()
    assert condition(status, "Compiled") == ("True", "ArtifactReused")
    assert status["artifact"] == {
        "digest": store.request.digest,
        "uri": f"s3://{BUCKET}/{store.key.removesuffix(MANIFEST)}",
        "sizeBytes": 7,
        "createdAt": "2026-01-01T00:00:00Z",
        "reused": True,
    }
    assert status["phase"] == "Loading"
    deployment = await world.one(DEPLOYMENT)
    assert await world.service() is None
    await world.make_ready(deployment)
    status = await world.settle()
    assert selected(await world.service()) == deployment["metadata"]["labels"]["neuron-operator.dev/revision"]
    assert status["phase"] == "Ready"
    assert condition(status, "Ready") == ("True", "Ready")
    assert condition(status, "Available") == ("True", "ReplicasReady")
    assert condition(status, "Reconciling") is None
    assert status["serving"]["replicas"] == "1/1"


async def test_a_compile_miss_from_job_to_ready(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.reconcile()
    store.put()
    await world.end_job(None)
    await world.reconcile()
    status = await world.status()
    assert condition(status, "Compiled") == ("True", "ArtifactFound")
    assert status["artifact"]["reused"] is False
    assert await world.all(JOB) == []
    await world.make_ready(await world.one(DEPLOYMENT))
    assert (await world.settle())["artifact"]["reused"] is False


@pytest.fixture
def pod_address() -> Iterator[str]:
    with own_address() as address:
        yield address


async def test_progress_of_the_compile_pod_stands_in_the_status(
    world: World, store: ArtifactStore, pod_address: str
) -> None:
    world.create_model()
    await world.reconcile()
    job = await world.one(JOB)
    (pod,) = await world.pods_of(job)
    progress = Progress(stage=Stage.COMPILING, done=1, total=4, eta_seconds=70.4)

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(progress.to_document())

    application = web.Application()
    application.router.add_get("/progress", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, pod_address, PROGRESS_PORT).start()
    try:
        world.report(pod, {"state": {"running": {}}}, address=pod_address)
        assert await world.reconcile() == Requeue(10)
        status = await world.status()
        assert condition(status, "Compiled") == ("False", "JobRunning")
        assert {key: status["compile"][key] for key in ("stage", "percent", "etaSeconds")} == {
            "stage": "Compiling",
            "percent": 25,
            "etaSeconds": 70,
        }
        assert world.writes[-1] == "status"
        progress = progress.model_copy(update={"done": 3})
        await world.reconcile()
        assert world.writes == []
        world.later(60)
        await world.reconcile()
        assert (await world.status())["compile"]["percent"] == 75
    finally:
        await runner.cleanup()
    # A pod that does not answer any more is no news.
    world.later(600)
    world.counting.writes.clear()
    await world.reconcile()
    assert world.writes == []
