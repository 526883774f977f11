"""What is kept as it was decided, what changes nothing, and names that are taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neuron_operator.api.objects import CONTROLLER_REVISION, DEPLOYMENT, JOB, SERVICE_ACCOUNT, Key, key_of, uid_of
from neuron_operator.errors import Conflict
from neuron_operator.loop.controller import Done, Requeue
from neuron_operator.settings import CPUEngineSettings, PlatformSettings
from support.artifact_store import ArtifactStore
from support.hub import Hub
from support.models import SETTINGS
from support.reconciling import World, condition, selected

pytestmark = pytest.mark.cluster

_UNLABELED = {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}


async def test_a_lost_status_comes_back_as_it_was(world: World, store: ArtifactStore) -> None:
    await world.serve(store)
    before = await world.status()
    world.patch("nm", "llama", {"status": None}, "--subresource=status")
    assert "conditions" not in (await world.model()).get("status", {})
    world.restart(SETTINGS)
    await world.reconcile()
    assert world.writes == ["status"]
    after = await world.status()
    for status in (before, after):
        for written in status["conditions"]:
            del written["lastTransitionTime"]
    assert after == before


async def test_a_moved_branch_changes_nothing(world: World, store: ArtifactStore, hub: Hub) -> None:
    await world.serve(store)
    hub.commit = "f" * 40
    world.restart(SETTINGS)
    await world.reconcile()
    assert world.writes == []
    assert (await world.status())["source"]["commit"] != hub.commit


async def test_an_upgrade_of_the_operator_restarts_nobody(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    upgraded = PlatformSettings(
        cpu=CPUEngineSettings(compile_image="example/c:2", serving_image="example/s:2", toolchain={"torch": "3"}),
        pod_environment={"HF_ENDPOINT": "http://elsewhere.example"},
    )
    world.restart(upgraded)
    await world.reconcile()
    assert world.writes == []
    live = await world.one(DEPLOYMENT)
    assert live["metadata"]["generation"] == deployment["metadata"]["generation"]


async def test_an_operator_that_was_killed_goes_on_with_the_same_job(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.settle()
    job = await world.one(JOB)
    world.restart(SETTINGS)
    await world.reconcile()
    assert world.writes == []
    assert uid_of(await world.one(JOB)) == uid_of(job)


async def test_drift_is_put_back(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    name = deployment["metadata"]["name"]
    world.patch("deployment", name, {"spec": {"replicas": 3}})
    world.patch("service", "llama", {"spec": {"selector": {"neuron-operator.dev/revision": "other"}}})
    await world.reconcile()
    assert sorted(set(world.writes) - {"status"}) == ["apply Deployment", "apply Service"]
    assert (await world.one(DEPLOYMENT))["spec"]["replicas"] == 1
    assert selected(await world.service()) == name.rpartition("-")[2]


SERVICE_EDITS: dict[str, dict[str, Any]] = {
    "another selector": {"selector": {"neuron-operator.dev/revision": "other"}},
    "more in the selector": {"selector": {"only": "some"}},
    "another port": {"ports": [{"name": "http", "port": 9090, "targetPort": "http"}]},
    "a target port that no pod has": {"ports": [{"name": "http", "port": 8080, "targetPort": "other"}]},
}


@pytest.mark.parametrize("case", SERVICE_EDITS)
async def test_the_service_leads_to_the_pods_again_at_the_same_address(
    world: World, store: ArtifactStore, case: str
) -> None:
    await world.serve(store)
    before = await world.service()
    assert before is not None
    world.patch("service", "llama", {"spec": SERVICE_EDITS[case]})
    await world.reconcile()
    after = await world.service()
    assert after is not None
    assert after["spec"] == before["spec"]
    assert condition(await world.status(), "Ready") == ("True", "Ready")
    world.counting.writes.clear()
    await world.reconcile()
    assert world.writes == []


async def test_labels_that_somebody_took_away_come_back(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    taken = {"neuron-operator.dev/revision": None, "neuron-operator.dev/model": None}
    world.patch("deployment", deployment["metadata"]["name"], {"metadata": {"labels": taken}})
    await world.reconcile()
    assert (await world.one(DEPLOYMENT))["metadata"]["labels"] == deployment["metadata"]["labels"]


async def test_a_job_that_lost_its_label_is_the_one_that_goes_on(world: World) -> None:
    world.create_model()
    await world.reconcile()
    job = await world.one(JOB)
    world.patch("job", job["metadata"]["name"], _UNLABELED)
    await world.reconcile()
    found = await world.one(JOB)
    assert (found["metadata"]["uid"], found["metadata"]["labels"]) == (
        job["metadata"]["uid"],
        job["metadata"]["labels"],
    )
    await world.reconcile()
    assert (await world.status())["compile"]["job"] == job["metadata"]["name"]


async def test_a_record_that_lost_its_label_stays_in_force(world: World, store: ArtifactStore, hub: Hub) -> None:
    deployment = await world.serve(store)
    before, status = await world.revision(), await world.status()
    hub.refuse(404, "RepoNotFound")
    world.patch("controllerrevision", before.name, _UNLABELED)
    await world.reconcile()
    after = await world.revision()
    assert (after.number, after.record) == (before.number, before.record)
    assert await world.settle() == status
    assert (await world.one(DEPLOYMENT))["metadata"]["uid"] == deployment["metadata"]["uid"]


async def test_pods_that_answer_are_known_to_and_kept_though_their_record_is_gone(
    world: World, store: ArtifactStore, hub: Hub
) -> None:
    deployment = await world.serve(store)
    record = await world.revision()
    hub.refuse(404, "RepoNotFound")
    world.edit({"model": {"huggingFace": {"repo": "org/nothing"}}})
    world.kubectl("delete", "controllerrevision", record.name, "-n", world.namespace)
    await world.reconcile()
    status = await world.status()
    assert condition(status, "SourceResolved") == ("False", "NotFound")
    assert condition(status, "Available") == ("True", "ReplicasReady")
    assert status["phase"] == "Degraded"
    hub.refusal = None
    world.edit({"model": {"huggingFace": {"repo": "org/llama"}}, "shapes": {"maxBatchSize": 2}})
    await world.reconcile()
    assert deployment["metadata"]["name"] in [found["metadata"]["name"] for found in await world.all(DEPLOYMENT)]
    assert condition(await world.status(), "Available") == ("True", "ReplicasReady")


async def test_a_deployment_that_somebody_deleted_comes_back(world: World, store: ArtifactStore) -> None:
    deployment = await world.serve(store)
    world.kubectl("delete", "deployment", deployment["metadata"]["name"], "-n", world.namespace)
    await world.reconcile()
    assert (await world.one(DEPLOYMENT))["spec"]["template"] == deployment["spec"]["template"]
    assert condition(await world.status(), "Available") == ("False", "NoReadyReplicas")
    assert condition(await world.status(), "Ready") != ("True", "Ready")


async def test_a_revision_takes_the_labels_of_others(world: World, store: ArtifactStore) -> None:
    # The API server compares the data byte by byte, and so would refuse the garbage collector's patch as well.
    world.create_model(model={"huggingFace": {"repo": "org/llama"}, "servedName": "org/llama:chat"})
    await world.reconcile()
    name = (await world.revision()).name
    for patch in ("merge", "strategic"):
        body = {"metadata": {"labels": {"theirs": patch}}}
        world.kubectl(
            "patch", "controllerrevision", name, "-n", world.namespace, f"--type={patch}", f"-p={json.dumps(body)}"
        )
    await world.reconcile()
    assert condition(await world.status(), "Planned") == ("True", "Planned")


async def test_a_record_that_another_release_wrote_stops_nothing_and_is_told(
    world: World, store: ArtifactStore
) -> None:
    deployment = await world.serve(store)
    name = (await world.revision()).name
    recorded = await world.one(CONTROLLER_REVISION)
    world.kubectl("delete", "controllerrevision", name, "-n", world.namespace)
    metadata = {key: recorded["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
    newer = recorded | {"metadata": metadata, "data": recorded["data"] | {"contractVersion": 2}}
    world.kubectl("create", "-f", "-", document=newer)
    await world.reconcile()
    status = await world.status()
    assert condition(status, "Ready") == condition(status, "Planned") == ("False", "InvalidSpec")
    assert condition(status, "Available") == ("True", "ReplicasReady")
    assert f"ControllerRevision {name}" in status["message"]
    assert (status["phase"], status["revisions"]) == ("Degraded", {"active": name})
    assert world.writes == ["status"]
    world.edit({"suspend": True})
    await world.reconcile()
    await world.has_ready(deployment, 0)
    world.kubectl("delete", "controllerrevision", name, "-n", world.namespace)
    world.edit({"suspend": False})
    await world.reconcile()
    assert (await world.revision()).record.contract_version == 1


async def test_a_foreign_service_is_never_taken_over_and_found_before_a_compile(
    world: World, store: ArtifactStore, hub: Hub
) -> None:
    ports = [{"port": 1, "name": "theirs"}]
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "llama"}, "spec": {"ports": ports}}
    world.kubectl("create", "-n", world.namespace, "-f", "-", document=foreign)
    before = await world.service()
    world.create_model()
    assert await world.reconcile() == Requeue(60)
    assert hub.asked == []
    assert world.writes == ["status"]
    assert await world.service() == before
    status = await world.status()
    assert condition(status, "Ready") == ("False", "Conflict")
    assert condition(status, "Stalled") == ("True", "Conflict")
    assert condition(status, "Available") == ("False", "NoReadyReplicas")
    assert "Service llama" in status["message"]
    world.kubectl("delete", "service", "llama", "-n", world.namespace)
    await world.reconcile()
    assert condition(await world.status(), "Compiled") == ("False", "JobPending")
    assert condition(await world.status(), "Stalled") is None


async def test_a_service_that_others_made_during_the_compile_is_not_taken_over(
    world: World, store: ArtifactStore
) -> None:
    store.put()
    world.create_model()
    await world.reconcile()
    ports = [{"port": 1, "name": "theirs"}]
    foreign = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "llama"}, "spec": {"ports": ports}}
    world.kubectl("create", "-n", world.namespace, "-f", "-", document=foreign)
    before = await world.service()
    await world.make_ready(await world.one(DEPLOYMENT))
    assert await world.reconcile() == Requeue(60)
    assert await world.service() == before
    assert condition(await world.status(), "Available") == ("False", "NoReadyReplicas")


async def test_children_of_a_deleted_model_of_the_same_name_are_waited_for(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.reconcile()
    revision = await world.one(CONTROLLER_REVISION)
    # A finalizer stands for a garbage collector that is slow.
    hold = {"metadata": {"finalizers": ["example.com/hold"]}}
    world.patch("controllerrevision", revision["metadata"]["name"], hold)
    world.kubectl("delete", "nm", "llama", "-n", world.namespace)
    world.create_model()
    assert await world.reconcile() == Requeue(5)
    status = await world.status()
    assert condition(status, "Reconciling") == ("True", "Conflict")
    assert condition(status, "Stalled") is None
    world.patch("controllerrevision", revision["metadata"]["name"], {"metadata": {"finalizers": None}})
    await world.gone(CONTROLLER_REVISION, [revision["metadata"]["name"]])
    await world.gone(JOB, [job["metadata"]["name"] for job in await world.all(JOB)])
    await world.reconcile()
    assert uid_of(await world.one(CONTROLLER_REVISION)) != uid_of(revision)
    assert condition(await world.status(), "Compiled") == ("False", "JobPending")


async def test_accounts_that_somebody_else_made_stay_as_they_are(world: World, store: ArtifactStore) -> None:
    world.kubectl("create", "serviceaccount", "neuron-compile", "-n", world.namespace)
    before = await world.gateway.get(SERVICE_ACCOUNT, Key(world.namespace, "neuron-compile"))
    world.create_model()
    await world.settle()
    assert await world.gateway.get(SERVICE_ACCOUNT, Key(world.namespace, "neuron-compile")) == before
    assert [account["metadata"]["name"] for account in await world.all(SERVICE_ACCOUNT)] == ["neuron-serving"]


async def test_a_deleted_model_is_left_alone_and_takes_everything_with_it(world: World, store: ArtifactStore) -> None:
    await world.serve(store)
    world.kubectl("delete", "nm", "llama", "-n", world.namespace, "--wait")
    assert await world.reconcile() == Done()
    assert world.writes == []
    for kind in (DEPLOYMENT, CONTROLLER_REVISION):
        await world.gone(kind, [key_of(found).name for found in await world.all(kind)])


async def test_a_model_deleted_in_the_middle_of_its_reconcile(world: World, store: ArtifactStore) -> None:
    world.create_model()
    await world.look()
    world.kubectl("delete", "nm", "llama", "-n", world.namespace, "--wait")
    with pytest.raises(Conflict):
        await world.reconcile_now("llama")
    assert await world.reconcile() == Done()


async def test_an_ending_namespace_is_left_alone(world: World, store: ArtifactStore) -> None:
    world.create_model()
    hold = {"metadata": {"finalizers": ["example.com/hold"]}}
    world.patch("nm", "llama", hold)
    world.kubectl("delete", "namespace", world.namespace, "--wait=false")
    try:
        assert await world.reconcile() == Done()
        assert "create Job" not in world.writes
    finally:
        world.patch("nm", "llama", {"metadata": {"finalizers": None}})
