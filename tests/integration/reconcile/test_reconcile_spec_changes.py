"""Changes of the spec: suspension, replicas, and a new revision beside the one that serves."""

from __future__ import annotations

import pytest

from neuron_operator.api.objects import CONTROLLER_REVISION, DEPLOYMENT, JOB, POD, uid_of
from support.artifact_store import ArtifactStore
from support.hub import Hub
from support.reconciling import World, condition, selected

pytestmark = pytest.mark.cluster


async def test_suspending_stops_everything_and_goes_back(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    world.edit({"suspend": True})
    await world.reconcile()
    assert (await world.status())["message"].endswith("the serving pods are ending")
    await world.has_ready(deployment, 0)
    await world.gone(POD, [pod["metadata"]["name"] for pod in await world.all(POD)])
    status = await world.settle()
    assert status["phase"] == "Suspended"
    assert status["message"].endswith("nothing is served")
    assert condition(status, "Ready") == ("False", "Suspended")
    assert condition(status, "Available") == ("False", "NoReadyReplicas")
    assert condition(status, "Compiled") == ("True", "ArtifactReused")
    assert condition(status, "Stalled") is condition(status, "Reconciling") is None
    world.edit({"suspend": False})
    await world.reconcile()
    await world.make_ready(await world.one(DEPLOYMENT))
    assert (await world.settle())["phase"] == "Ready"


async def test_suspending_stops_pods_whose_record_is_gone(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    world.kubectl("delete", "controllerrevision", "--all", "-n", world.namespace)
    world.edit({"suspend": True})
    await world.reconcile()
    await world.has_ready(deployment, 0)
    assert (await world.one(DEPLOYMENT))["spec"]["replicas"] == 0
    world.counting.writes.clear()
    await world.settle()
    assert "merge Deployment" not in world.writes


async def test_suspending_a_compile_ends_it(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.reconcile()
    world.edit({"suspend": True})
    await world.reconcile()
    assert await world.all(JOB) == []
    assert (await world.settle())["phase"] == "Suspended"


async def test_a_model_that_starts_out_suspended_asks_nobody(world: World, store: ArtifactStore, hub: Hub) -> None:
    world.create_model(suspend=True)
    await world.reconcile()
    assert world.writes == ["status"]
    assert hub.asked == []
    assert (await world.status())["observedGeneration"] == 1


async def test_no_replicas(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    world.edit({"serving": {"replicas": 0}})
    await world.reconcile()
    await world.has_ready(deployment, 0)
    status = await world.settle()
    assert condition(status, "Ready") == ("True", "ScaledToZero")
    assert condition(status, "Available") == ("False", "NoReadyReplicas")
    assert status["serving"]["replicas"] == "0/0"
    assert (status["replicas"], status["observedGeneration"]) == (0, 2)


async def test_more_replicas_are_the_same_revision(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    world.kubectl("scale", "nm", "llama", "--replicas=2", "-n", world.namespace)
    await world.reconcile()
    assert condition(await world.status(), "Available") == ("True", "ReplicasReady")
    assert condition(await world.status(), "Ready") == ("False", "Loading")
    await world.make_ready(deployment, 2)
    status = await world.settle()
    assert status["serving"]["replicas"] == "2/2"
    assert len(await world.all(CONTROLLER_REVISION)) == 1


async def test_writing_out_what_auto_stood_for_restarts_nobody(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    world.edit({"runtime": {"engine": "CPU"}, "hardware": {"target": "CPU"}})
    await world.reconcile()
    assert world.writes == ["status"]
    status = await world.status()
    assert (status["phase"], status["observedGeneration"]) == ("Ready", 2)
    assert status["revisions"] == dict.fromkeys(("active", "target"), deployment["metadata"]["name"])


async def test_too_few_replicas_are_a_degraded_model(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    world.edit({"serving": {"replicas": 2}})
    await world.reconcile()
    await world.make_ready(deployment, 2)
    assert (await world.settle())["phase"] == "Ready"
    first, _ = await world.pods_of(deployment, 2)
    world.report(first, {"ready": False, "state": {"running": {}}})
    await world.has_some_ready(deployment, 1)
    status = await world.settle()
    assert status["phase"] == "Degraded"
    assert status["serving"]["replicas"] == "1/2"
    assert condition(status, "Available") == ("True", "ReplicasReady")
    world.edit(NEW_NAME)
    await world.reconcile()
    assert (await world.status())["phase"] == "Loading"


NEW_NAME = {"model": {"servedName": "chat"}}


async def test_a_new_revision_takes_over_only_once_it_is_ready(world: World, store: ArtifactStore) -> None:
    old = await world.serve(store)
    old_hash = old["metadata"]["name"].rpartition("-")[2]
    world.edit(NEW_NAME)
    await world.reconcile()
    new = next(found for found in await world.all(DEPLOYMENT) if uid_of(found) != uid_of(old))
    assert selected(await world.service()) == old_hash
    status = await world.status()
    assert condition(status, "Ready") == ("False", "Loading")
    assert condition(status, "Available") == ("True", "ReplicasReady")
    assert status["revisions"] == {"active": old["metadata"]["name"], "target": new["metadata"]["name"]}
    assert status["serving"]["deployment"] == old["metadata"]["name"]
    await world.make_ready(new)
    await world.reconcile()
    assert selected(await world.service()) == new["metadata"]["name"].rpartition("-")[2]
    assert [uid_of(found) for found in await world.all(DEPLOYMENT)] == [uid_of(new)]
    assert len(await world.all(CONTROLLER_REVISION)) == 2
    status = await world.settle()
    assert status["phase"] == "Ready"
    assert status["revisions"] == {"active": new["metadata"]["name"], "target": new["metadata"]["name"]}


async def test_a_spec_that_cannot_be_met_leaves_the_old_one_serving(
    world: World, store: ArtifactStore, hub: Hub
) -> None:
    old = await world.serve(store)
    hub.refuse(404, "RevisionNotFound")
    world.edit({"model": {"huggingFace": {"revision": "typo"}}})
    status = await world.settle()
    assert status["phase"] == "Degraded"
    assert condition(status, "Available") == ("True", "ReplicasReady")
    assert condition(status, "SourceResolved") == ("False", "NotFound")
    # The old one is kept as its record says all the same.
    world.patch("deployment", old["metadata"]["name"], {"spec": {"replicas": 0}})
    await world.reconcile()
    assert (await world.one(DEPLOYMENT))["spec"]["replicas"] == 1


async def test_a_service_deleted_in_the_middle_of_a_rollout_comes_back_to_the_old_revision(
    world: World, store: ArtifactStore
) -> None:
    old = await world.serve(store)
    world.edit({"shapes": {"maxBatchSize": 2}})
    await world.reconcile()
    assert len(await world.all(JOB)) == 1
    world.kubectl("delete", "service", "llama", "-n", world.namespace)
    await world.reconcile()
    assert selected(await world.service()) == old["metadata"]["name"].rpartition("-")[2]
    assert condition(await world.status(), "Available") == ("True", "ReplicasReady")


async def test_a_service_deleted_while_some_of_the_new_pods_are_ready_comes_back_to_the_old_revision(
    world: World, store: ArtifactStore
) -> None:
    old = await world.serve(store)
    world.edit({"serving": {"replicas": 2}})
    await world.reconcile()
    await world.make_ready(old, 2)
    world.edit(NEW_NAME)
    await world.reconcile()
    new = next(found for found in await world.all(DEPLOYMENT) if uid_of(found) != uid_of(old))
    first, _ = await world.pods_of(new, 2)
    world.report(first, {"ready": True, "state": {"running": {}}})
    await world.has_some_ready(new, 1)
    world.kubectl("delete", "service", "llama", "-n", world.namespace)
    await world.reconcile()
    assert selected(await world.service()) == old["metadata"]["name"].rpartition("-")[2]


async def test_the_first_of_several_replicas_answers_as_soon_as_it_can(world: World, store: ArtifactStore) -> None:
    store.put()
    world.create_model(serving={"replicas": 2, "resources": {"requests": {"cpu": "1000"}}})
    await world.reconcile()
    deployment = await world.one(DEPLOYMENT)
    first, _ = await world.pods_of(deployment, 2)
    world.report(first, {"ready": True, "state": {"running": {}}})
    await world.has_some_ready(deployment, 1)
    await world.reconcile()
    status = await world.status()
    assert condition(status, "Available") == ("True", "ReplicasReady")
    assert condition(status, "Reconciling") is not None
    assert status["phase"] == "Loading"


async def test_a_first_revision_that_never_served_makes_room_for_the_next(world: World, store: ArtifactStore) -> None:
    store.put()
    world.create_model()
    await world.reconcile()
    assert "active" not in (await world.status())["revisions"]
    broken = await world.one(DEPLOYMENT)
    world.edit(NEW_NAME)
    await world.reconcile()
    assert uid_of(await world.one(DEPLOYMENT)) != uid_of(broken)
    assert "active" not in (await world.status())["revisions"]


async def test_going_back_to_the_old_spec_undoes_what_was_begun(world: World, store: ArtifactStore) -> None:
    old = await world.serve(store)
    generation = (await world.one(DEPLOYMENT))["metadata"]["generation"]
    world.edit({"shapes": {"maxBatchSize": 2}})
    await world.reconcile()
    (job,) = await world.all(JOB)
    world.edit({"shapes": {"maxBatchSize": 4}})
    await world.reconcile()
    await world.gone(JOB, [job["metadata"]["name"]])
    assert (await world.settle())["phase"] == "Ready"
    live = await world.one(DEPLOYMENT)
    assert (uid_of(live), live["metadata"]["generation"]) == (uid_of(old), generation)


async def test_a_revision_overtaken_before_it_was_ready_leaves_no_pods(world: World, store: ArtifactStore) -> None:
    old = await world.serve(store)
    world.edit(NEW_NAME)
    await world.reconcile()
    world.edit({"model": {"servedName": "talk"}})
    await world.settle()
    names = {found["metadata"]["name"] for found in await world.all(DEPLOYMENT)}
    status = await world.status()
    assert names == {old["metadata"]["name"], status["revisions"]["target"]}
