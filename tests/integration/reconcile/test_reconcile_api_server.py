"""The API server is in trouble, or refuses what the operator says."""

from __future__ import annotations

import pytest

from neuron_operator.api.objects import JOB, Manifest
from neuron_operator.errors import Conflict, Transient
from support.artifact_store import ArtifactStore
from support.reconciling import World, condition

pytestmark = pytest.mark.cluster


async def test_a_child_that_cannot_be_written_for_now_is_told_and_tried_again(
    world: World, store: ArtifactStore
) -> None:
    async def busy(manifest: Manifest) -> None:
        if manifest["kind"] == "Job":
            raise Transient("POST jobs: 503", after=7)

    world.counting.before_create = busy
    world.create_model()
    with pytest.raises(Transient) as raised:
        await world.reconcile()
    assert raised.value.after == 7
    status = await world.status()
    assert status["observedGeneration"] == 1
    assert condition(status, "Ready") == condition(status, "Compiled") == ("False", "APIServerUnreachable")
    assert condition(status, "Reconciling") == ("True", "APIServerUnreachable")
    assert "POST jobs: 503" in status["message"]
    world.counting.writes.clear()
    with pytest.raises(Transient):
        await world.reconcile()
    assert world.writes == []
    world.counting.before_create = None
    await world.reconcile()
    assert len(await world.all(JOB)) == 1
    assert condition(await world.status(), "Ready") == ("False", "JobPending")


async def test_a_status_that_is_refused_is_written_without_its_details(world: World, store: ArtifactStore) -> None:
    def spoil(manifest: Manifest) -> None:
        if "artifact" in manifest["status"]:
            manifest["status"]["artifact"]["sizeBytes"] = "many"

    store.put()
    world.counting.before_status = spoil
    world.create_model()
    status = await world.settle()
    assert condition(status, "Compiled") == ("True", "ArtifactReused")
    assert status["phase"] == "Loading"
    assert "status.artifact.sizeBytes" in status["message"]
    assert "artifact" not in status
    world.counting.before_status = None
    await world.reconcile()
    assert (await world.status())["artifact"]["sizeBytes"] == 7


async def test_a_model_whose_deletion_no_event_told_of_is_learned_to_be_gone_when_its_status_is_written(
    world: World,
) -> None:
    world.create_model()
    await world.look()
    world.kubectl("delete", "nm", "llama", "-n", world.namespace, "--wait")
    with pytest.raises(Conflict):
        await world.reconcile_now("llama")
    world.counting.writes.clear()
    await world.reconcile_now("llama")
    assert world.writes == []
