"""The hub, the store or the plan says no, and the status says why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from neuron_operator.api.objects import JOB
from neuron_operator.loop.controller import Done, Requeue
from neuron_operator.settings import Identities
from neuron_runtime.contract.request import Quantization, Task
from support.artifact_store import BUCKET, ArtifactStore
from support.hub import ENCODER_CONFIG, Hub
from support.models import SETTINGS
from support.reconciling import World, condition

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

pytestmark = pytest.mark.cluster


HUB_REFUSALS = {
    "no such repository": (401, "RepoNotFound", {}, "NotFound", 300),
    "no such revision": (404, "RevisionNotFound", {}, "NotFound", 300),
    "gated": (401, "GatedRepo", {}, "AccessDenied", 300),
    "forbidden": (403, "", {}, "AccessDenied", 300),
    "too many requests": (429, "", {"Retry-After": "17"}, "RateLimited", 17),
    "too many requests, no word of when": (429, "", {}, "RateLimited", 30),
    "broken": (503, "", {}, "Unreachable", 30),
}


@pytest.mark.parametrize("case", HUB_REFUSALS)
async def test_what_the_hub_refuses_stands_on_the_resource(world: World, hub: Hub, case: str) -> None:
    status_code, code, headers, reason, after = HUB_REFUSALS[case]
    hub.refuse(status_code, code, **headers)
    world.create_model()
    assert await world.reconcile() == Requeue(after)
    status = await world.status()
    assert condition(status, "SourceResolved") == ("False", reason)
    assert condition(status, "Ready") == ("False", reason)
    assert condition(status, "Planned") == ("Unknown", "Planning")
    assert "org/llama" in status["message"]
    stalled = status["phase"] == "Failed"
    assert stalled is (after == 300)
    assert (condition(status, "Stalled") is not None) is stalled
    assert ("waitingFor" in status) is not stalled
    assert world.writes == ["status"]
    await world.reconcile()
    assert world.writes == []
    hub.refusal = None
    await world.reconcile()
    assert condition(await world.status(), "SourceResolved") == ("True", "Resolved")


async def test_a_hub_that_does_not_listen_is_waited_for(world: World, hub: Hub) -> None:
    await hub.stop()
    world.create_model()
    assert await world.reconcile() == Requeue(30)
    assert condition(await world.status(), "SourceResolved") == ("False", "Unreachable")


ANSWERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no weights": ({"weights": None}, "SourceResolved", "UnsupportedFormat"),
    "pickled weights": ({"weights": "pytorch_model.bin"}, "SourceResolved", "UnsupportedFormat"),
    "config is a list": ({"config": []}, "SourceResolved", "UnsupportedFormat"),
    "a listing of something else": ({"info": {"siblings": "none"}}, "SourceResolved", "Unreachable"),
    "no config": ({"info": {"sha": "c" * 40, "siblings": []}}, "SourceResolved", "UnsupportedFormat"),
    "another architecture": ({"config": {"architectures": ["T5Model"]}}, "Planned", "UnsupportedArchitecture"),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_what_the_hub_holds_is_not_a_model(world: World, hub: Hub, case: str) -> None:
    answers, kind, reason = ANSWERS[case]
    for name, value in answers.items():
        setattr(hub, name, value)
    world.create_model()
    await world.reconcile()
    assert condition(await world.status(), kind) == ("False", reason)
    assert world.writes == ["status"]


async def test_an_encoder_is_asked_for_by_name(world: World, hub: Hub, store: ArtifactStore) -> None:
    hub.config = ENCODER_CONFIG
    world.create_model()
    assert await world.reconcile() == Done()
    status = await world.status()
    assert condition(status, "Planned") == ("False", "UnsupportedArchitecture")
    assert "spec.model.task: Embedding" in status["lastFailure"]["remedy"]
    world.edit({"model": {"task": "Embedding"}})
    await world.reconcile()
    status = await world.status()
    assert condition(status, "Planned") == ("True", "Planned")
    assert status["plan"]["contextLengths"] == [32, 64, 128, 256, 512]
    assert status["plan"]["tokenGenerationBatches"] == []
    assert (await world.revision()).record.request.task is Task.EMBEDDING


async def test_encoders_are_not_quantized_and_generators_are(world: World, hub: Hub, store: ArtifactStore) -> None:
    world.create_model(shapes={"quantization": "Int8"})
    await world.reconcile()
    assert (await world.status())["plan"]["quantization"] == "Int8"
    assert (await world.revision()).record.request.quantization is Quantization.INT8
    hub.config = ENCODER_CONFIG
    world.edit({"model": {"task": "Embedding"}})
    await world.reconcile()
    status = await world.status()
    assert condition(status, "Planned") == ("False", "DoesNotFit")
    assert "shapes.quantization is Int8" in status["message"]
    assert "Set shapes.quantization to None" in status["lastFailure"]["remedy"]


async def test_a_length_beyond_the_model_does_not_fit(world: World, hub: Hub) -> None:
    world.create_model(shapes={"maxModelLength": 4096})
    assert await world.reconcile() == Done()
    status = await world.status()
    assert condition(status, "Planned") == ("False", "DoesNotFit")
    assert "shapes.maxModelLength to 2048 or less" in status["message"]


async def test_no_store_at_all(world: World, hub: Hub) -> None:
    manifest = world.manifest()
    del manifest["spec"]["artifactStore"]
    world.kubectl("create", "-f", "-", document=manifest)
    await world.reconcile()
    assert condition(await world.status(), "Planned") == ("False", "MissingArtifactStore")


async def test_an_account_that_the_platform_has_to_make(world: World, store: ArtifactStore) -> None:
    world.restart(SETTINGS.model_copy(update={"identities": Identities(manage=False)}))
    world.kubectl("create", "serviceaccount", "neuron-serving", "-n", world.namespace)
    world.create_model()
    assert await world.reconcile() == Requeue(30)
    status = await world.status()
    assert condition(status, "Compiled") == ("False", "ServiceAccountMissing")
    command = f"kubectl create serviceaccount neuron-compile -n {world.namespace}"
    assert command in status["waitingFor"]["message"]
    assert "neuron-serving" not in status["waitingFor"]["message"]
    world.kubectl(*command.split()[1:])
    await world.reconcile()
    assert condition(await world.status(), "Compiled") == ("False", "JobPending")
    assert "apply ServiceAccount" not in world.writes


async def test_a_bucket_that_does_not_exist(world: World, store: ArtifactStore, s3: S3Client) -> None:
    bucket = f"late-{world.namespace}"[:63]
    world.create_model(artifactStore={"s3": {"bucket": bucket}})
    assert await world.reconcile() == Requeue(60)
    status = await world.status()
    assert condition(status, "Compiled") == ("False", "StoreBucketNotFound")
    assert bucket in status["message"]
    assert await world.all(JOB) == []
    s3.create_bucket(Bucket=bucket)
    await world.reconcile()
    assert condition(await world.status(), "Compiled") == ("False", "JobPending")


async def test_a_manifest_that_cannot_be_read_is_not_compiled_over(world: World, store: ArtifactStore) -> None:
    store.damage()
    world.create_model()
    assert await world.reconcile() == Requeue(60)
    status = await world.status()
    assert condition(status, "Compiled") == ("False", "ArtifactDamaged")
    assert f"s3://{BUCKET}/{store.key}" in status["message"]
    assert await world.all(JOB) == []
    store.delete()
    await world.reconcile()
    assert condition(await world.status(), "Compiled") == ("False", "JobPending")
