"""Sources that the operator does not read itself: an inspect Job looks, with the tenant's rights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from neuron_operator.api.conditions import rfc3339
from neuron_operator.api.objects import CONTROLLER_REVISION, DEPLOYMENT, JOB, Manifest, annotations_of, labels_of
from neuron_operator.loop.controller import Done, Requeue
from neuron_operator.model.resources import names
from neuron_operator.model.revision import UPSTREAM_ANNOTATION, parse_revision
from neuron_runtime.contract.digests import digest_of, hex_part
from neuron_runtime.contract.inspection import ArtifactFacts, InspectSpec, SourceFacts, WeightFormat
from neuron_runtime.contract.launch import COMPILE_SPEC_VARIABLE, INSPECT_SPEC_VARIABLE, CompileSpec, ServingSpec
from neuron_runtime.contract.origin import HuggingFaceOrigin, S3Origin, VolumeOrigin
from neuron_runtime.contract.outcome import FailureCode, TerminationMessage
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target
from support.artifact_store import ArtifactStore
from support.hub import CONFIG, Hub
from support.kubectl import Kubectl
from support.models import SETTINGS
from support.reconciling import World
from support.recording import eventually

GATED = {"huggingFace": {"repo": "org/gated", "tokenSecretRef": {"name": "hugging-face", "key": "token"}}}


@pytest.fixture(scope="module", autouse=True)
def no_node_takes_pods(ctl: Kubectl) -> Iterator[None]:
    """The test is the kubelet; inspect pods are so small that a node would take them."""
    everywhere = ("-l", "kubernetes.io/hostname")
    ctl("cordon", *everywhere)
    yield
    ctl("uncordon", *everywhere)


def facts(origin: HuggingFaceOrigin | S3Origin | VolumeOrigin) -> TerminationMessage:
    return TerminationMessage(
        source=SourceFacts(
            origin=origin,
            digest=digest_of(origin.location),
            size_bytes=1000,
            weights=WeightFormat.SAFETENSORS,
            config=CONFIG,
        )
    )


async def job_of(world: World, component: str) -> Manifest:
    (job,) = [job for job in await world.all(JOB) if labels_of(job)[names.COMPONENT_LABEL] == component]
    return job


def container_of(job: Manifest) -> Manifest:
    container: Manifest = job["spec"]["template"]["spec"]["containers"][0]
    return container


def variable(job: Manifest, name: str) -> str:
    return next(str(entry["value"]) for entry in container_of(job)["env"] if entry["name"] == name)


async def answer(world: World, message: TerminationMessage, exit_code: int = 0) -> None:
    """Let the inspect pod end with a message; returns once the Job controller knows."""
    job = await job_of(world, names.INSPECT_COMPONENT)
    (pod,) = await world.pods_of(job)
    ended = {"exitCode": exit_code, "finishedAt": rfc3339(world.now), "message": message.encode()}
    world.report(pod, {"state": {"terminated": ended}}, phase="Failed" if exit_code else "Succeeded")
    wanted = "Failed" if exit_code else "Complete"

    async def look() -> bool | None:
        live = await job_of(world, names.INSPECT_COMPONENT)
        conditions = (live.get("status") or {}).get("conditions") or []
        return True if any(found["type"] == wanted for found in conditions) else None

    await eventually(f"Job is {wanted}", look)


def condition(status: Manifest, kind: str) -> Manifest:
    return next(found for found in status["conditions"] if found["type"] == kind)


async def test_a_gated_repository_is_inspected_with_its_token_and_compiled_with_it(world: World) -> None:
    world.create_model(model=GATED)
    status = await world.settle()
    assert condition(status, "SourceResolved")["reason"] in ("Inspecting", "Unschedulable")
    job = await job_of(world, names.INSPECT_COMPONENT)
    spec = InspectSpec.model_validate_json(variable(job, INSPECT_SPEC_VARIABLE))
    assert spec.token is not None and (spec.token.secret, spec.token.key) == ("hugging-face", "token")
    (secret,) = [volume for volume in job["spec"]["template"]["spec"]["volumes"] if "secret" in volume]
    assert secret["secret"]["optional"] is True
    assert variable(job, "HF_TOKEN_PATH").startswith(
        next(mount["mountPath"] for mount in container_of(job)["volumeMounts"] if mount["name"] == secret["name"])
    )

    await answer(world, facts(HuggingFaceOrigin(repo="org/gated", commit="d" * 40)))
    status = await world.settle()
    assert status["source"]["commit"] == "d" * 40
    compiling = await job_of(world, names.COMPILE_COMPONENT)
    compile_spec = CompileSpec.model_validate_json(variable(compiling, COMPILE_SPEC_VARIABLE))
    assert compile_spec.origin == HuggingFaceOrigin(repo="org/gated", commit="d" * 40)
    assert compile_spec.token == spec.token
    await world.gone(JOB, [job["metadata"]["name"]])


async def test_what_was_inspected_survives_a_restart_and_is_not_asked_again(world: World) -> None:
    world.create_model(model=GATED)
    await world.settle()
    await answer(world, facts(HuggingFaceOrigin(repo="org/gated", commit="d" * 40)))
    world.restart(SETTINGS)
    await world.settle()
    assert (await world.revision()).record.source.commit == "d" * 40
    assert not [write for write in world.writes if "src" in write and "create" in write]


@pytest.mark.parametrize(
    ("code", "reason", "phase"),
    [
        (FailureCode.SOURCE_TOKEN_MISSING, "TokenMissing", "Failed"),
        (FailureCode.SOURCE_ACCESS_DENIED, "AccessDenied", "Failed"),
        (FailureCode.SOURCE_NOT_FOUND, "NotFound", "Failed"),
        (FailureCode.SOURCE_UNSAFE, "UnsafeSource", "Failed"),
        (FailureCode.UNSUPPORTED_MODEL, "UnsupportedFormat", "Failed"),
        (FailureCode.SOURCE_RATE_LIMITED, "RateLimited", "Resolving"),
        (FailureCode.SOURCE_UNREACHABLE, "Unreachable", "Resolving"),
    ],
)
async def test_a_failed_inspection_says_why_and_what_to_do(
    world: World, code: FailureCode, reason: str, phase: str
) -> None:
    world.create_model(model=GATED)
    await world.settle()
    await answer(world, TerminationMessage(code=code, message="It broke"), exit_code=1)
    status = await world.settle()
    found = condition(status, "SourceResolved")
    assert (found["status"], found["reason"], status["phase"]) == ("False", reason, phase)
    assert "It broke" in found["message"]
    assert status["lastFailure"]["code"] == code.value
    assert status["lastFailure"]["remedy"] in found["message"]


async def test_a_token_that_appears_is_found_by_itself(world: World) -> None:
    world.create_model(model=GATED)
    await world.settle()
    await answer(world, TerminationMessage(code=FailureCode.SOURCE_TOKEN_MISSING, message="no Secret"), exit_code=75)
    await world.settle()
    first = await job_of(world, names.INSPECT_COMPONENT)
    world.later(301)
    await world.reconcile()
    await world.settle()
    second = await job_of(world, names.INSPECT_COMPONENT)
    assert second["metadata"]["name"] == first["metadata"]["name"].removesuffix("1") + "2"


async def test_a_hub_that_asks_for_a_pause_gets_it(world: World) -> None:
    world.create_model(model=GATED)
    await world.settle()
    # The pause counts from the answer, not from when somebody began to ask.
    world.later(500)
    limited = TerminationMessage(code=FailureCode.SOURCE_RATE_LIMITED, message="429", retry_after_seconds=900)
    await answer(world, limited, exit_code=1)
    await world.settle()
    world.later(600)
    await world.settle()
    assert (await job_of(world, names.INSPECT_COMPONENT))["metadata"]["name"].endswith("-1")
    world.later(400)
    await world.reconcile()
    await world.settle()
    assert (await job_of(world, names.INSPECT_COMPONENT))["metadata"]["name"].endswith("-2")


async def test_another_source_in_the_spec_replaces_the_inspection(world: World) -> None:
    world.create_model(model=GATED)
    await world.settle()
    old = await job_of(world, names.INSPECT_COMPONENT)
    world.edit({"model": {"huggingFace": None, "s3": {"uri": "s3://models/llama/"}}})
    await world.settle()
    await world.gone(JOB, [old["metadata"]["name"]])
    new = InspectSpec.model_validate_json(variable(await job_of(world, names.INSPECT_COMPONENT), INSPECT_SPEC_VARIABLE))
    assert new.target == S3Origin(bucket="models", prefix="llama")


async def test_another_token_restarts_nothing_once_the_source_is_pinned(world: World) -> None:
    world.create_model(model=GATED)
    await world.settle()
    await answer(world, facts(HuggingFaceOrigin(repo="org/gated", commit="d" * 40)))
    await world.settle()
    before = await world.revision()
    world.edit({"model": {"huggingFace": {"tokenSecretRef": {"name": "rotated"}}}})
    await world.settle()
    assert (await world.revision()).name == before.name


async def test_a_claim_is_mounted_by_those_who_read_it_and_not_by_the_server(
    world: World, store: ArtifactStore
) -> None:
    world.create_model(model={"persistentVolumeClaim": {"claimName": "models", "path": "llama"}})
    status = await world.settle()
    assert status["source"]["location"] == "pvc://models/llama"
    job = await job_of(world, names.INSPECT_COMPONENT)
    claims = [volume for volume in job["spec"]["template"]["spec"]["volumes"] if "persistentVolumeClaim" in volume]
    assert claims[0]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    await answer(world, facts(VolumeOrigin(claim_name="models", path="llama")))
    await world.settle()
    compiling = await job_of(world, names.COMPILE_COMPONENT)
    assert any("persistentVolumeClaim" in volume for volume in compiling["spec"]["template"]["spec"]["volumes"])
    revision = await world.revision()
    template = revision.record.deployment["spec"]["template"]["spec"]
    assert {key for volume in template["volumes"] for key in volume} == {"name", "emptyDir"}


REQUEST = CompileRequest(
    engine=Engine.CPU,
    toolchain=SETTINGS.cpu.toolchain,
    source_digest=digest_of("source"),
    shapes=Shapes(max_model_length=128, max_batch_size=2, context_lengths=(32,), token_generation_batches=(1, 2)),
    dtype=DType.FLOAT32,
    target=Target.CPU,
)
BROUGHT = {
    "compiledArtifact": {
        "uri": f"s3://elsewhere/team/ns/staging/artifacts/{hex_part(REQUEST.digest)}/",
        "digest": REQUEST.digest,
    }
}


def artifact_facts(request: CompileRequest = REQUEST) -> TerminationMessage:
    return TerminationMessage(
        artifact=ArtifactFacts(
            request=request,
            size_bytes=4096,
            created_at="2026-01-01T00:00:00Z",
            source_commit="e" * 40,
            source_location="org/llama",
            source_size_bytes=1000,
            config=CONFIG,
        )
    )


async def test_an_artifact_that_was_compiled_elsewhere_is_served_as_it_is(world: World) -> None:
    world.create_model(model=BROUGHT, artifactStore=None)
    await world.settle()
    await answer(world, artifact_facts())
    asked = world.artifacts.asked
    status = await world.settle()
    assert condition(status, "Compiled")["reason"] == "ArtifactReused"
    assert status["artifact"]["uri"] == BROUGHT["compiledArtifact"]["uri"]
    assert (status["plan"]["maxModelLength"], status["plan"]["maxBatchSize"]) == (128, 2)
    assert world.artifacts.asked == asked == 0, "the operator looks into somebody else's bucket"
    assert not await world.all(JOB)
    deployment = await world.one(DEPLOYMENT)
    entry = next(found for found in container_of(deployment)["env"] if found["name"] == "NEURON_SERVING_SPEC")
    spec = ServingSpec.model_validate_json(entry["value"])
    assert (spec.store.bucket, spec.store.prefix, spec.store.domain) == ("elsewhere", "team", "ns/staging")
    assert spec.source_digest == REQUEST.source_digest
    await world.make_ready(deployment)
    assert (await world.settle())["phase"] == "Ready"
    world.restart(SETTINGS)
    await world.reconcile()
    assert world.writes == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (FailureCode.ARTIFACT_MISSING, "ArtifactMissing"),
        (FailureCode.ARTIFACT_DAMAGED, "ArtifactDamaged"),
        (FailureCode.STORE_ACCESS_DENIED, "StoreAccessDenied"),
    ],
)
async def test_an_artifact_that_cannot_be_brought_is_a_failure_and_never_a_compile(
    world: World, code: FailureCode, reason: str
) -> None:
    world.create_model(model=BROUGHT)
    await world.settle()
    await answer(world, TerminationMessage(code=code, message="It broke"), exit_code=1)
    status = await world.settle()
    found = condition(status, "SourceResolved")
    assert (found["status"], found["reason"], status["phase"]) == ("False", reason, "Failed")
    assert "model.compiledArtifact" in status["lastFailure"]["remedy"]
    assert "compiled again" not in found["message"] and "artifactStore" not in found["message"]
    assert status["lastFailure"]["retryable"] is True
    assert [labels_of(job)[names.COMPONENT_LABEL] for job in await world.all(JOB)] == [names.INSPECT_COMPONENT]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"shapes": {"maxModelLength": 256}}, "shapes.maxModelLength to 128"),
        ({"model": {**BROUGHT, "task": "Embedding"}}, "model.task to TextGeneration"),
        ({"shapes": {"buckets": {"contextLengths": [16]}}}, "shapes.buckets.contextLengths to [32]"),
        ({"shapes": {"maxBatchSize": 8}}, "shapes.maxBatchSize to 2"),
        ({"shapes": {"quantization": "Int8"}}, "shapes.quantization to None"),
    ],
)
async def test_an_artifact_that_contradicts_the_spec_is_refused(world: World, spec: dict[str, Any], words: str) -> None:
    world.create_model(**{"model": BROUGHT, **spec})
    await world.settle()
    await answer(world, artifact_facts())
    status = await world.settle()
    found = condition(status, "Planned")
    assert (found["status"], found["reason"]) == ("False", "ArtifactIncompatible")
    assert words in found["message"]


async def test_an_artifact_of_another_toolchain_is_refused_before_anything_is_started(world: World) -> None:
    other = REQUEST.model_copy(update={"toolchain": {"torch": "1"}})
    digest = other.digest
    uri = f"s3://elsewhere/shared/artifacts/{hex_part(digest)}"
    world.create_model(model={"compiledArtifact": {"uri": uri, "digest": digest}})
    await world.settle()
    await answer(world, artifact_facts(other))
    found = condition(await world.settle(), "Planned")
    assert found["reason"] == "ArtifactIncompatible"
    assert "torch 1" in found["message"] and "torch 2" in found["message"]


async def test_a_branch_that_moves_is_shown_and_not_followed(world: World, store: ArtifactStore, hub: Hub) -> None:
    await world.serve(store)
    before = await world.revision()
    moved = "f" * 40
    hub.commit = moved
    world.later(13 * 3600)
    await world.reconcile()
    status = await world.settle()
    assert status["source"]["commit"] == before.record.source.commit
    assert status["source"]["upstreamCommit"] == moved
    assert condition(status, "SourceResolved")["status"] == "True"
    assert f"main names commit {moved} by now" in condition(status, "SourceResolved")["message"]
    assert "set model.huggingFace.revision" in condition(status, "SourceResolved")["message"]
    assert (status["phase"], (await world.revision()).name) == ("Ready", before.name)
    assert annotations_of(await world.one(CONTROLLER_REVISION))[UPSTREAM_ANNOTATION] == moved
    world.restart(SETTINGS)
    await world.reconcile()
    assert world.writes == [], "a restart forgets what was seen upstream"
    hub.commit = before.record.source.commit
    world.later(13 * 3600)
    await world.reconcile()
    assert "upstreamCommit" not in (await world.settle())["source"]


async def test_a_source_that_cannot_move_any_more_is_looked_at_in_peace(world: World, store: ArtifactStore) -> None:
    """The times that were set for an earlier source are not those of the next one."""
    await world.serve(store)
    world.edit(
        {"model": {"huggingFace": {"repo": "org/llama", "revision": (await world.revision()).record.source.commit}}}
    )
    await world.settle()
    for deployment in await world.all(DEPLOYMENT):
        await world.make_ready(deployment)
    assert (await world.settle())["phase"] == "Ready"
    world.later(13 * 3600)
    for _ in range(2):
        outcome = await world.reconcile()
    assert isinstance(outcome, Requeue) and outcome.after > 60, "it would be looked at without a pause"


async def test_an_artifact_that_takes_the_place_of_a_source_is_looked_at_in_peace(
    world: World, store: ArtifactStore
) -> None:
    await world.serve(store)
    world.edit({"model": {"huggingFace": None, **BROUGHT}})
    await world.settle()
    await answer(world, artifact_facts())
    await world.settle()
    for deployment in await world.all(DEPLOYMENT):
        await world.make_ready(deployment)
    assert (await world.settle())["phase"] == "Ready"
    world.later(30 * 3600)
    await world.reconcile()
    assert isinstance(await world.reconcile(), Done)


async def test_a_record_of_the_first_release_still_applies(world: World, store: ArtifactStore) -> None:
    """As written before sources had kinds: repository and commit alone."""
    await world.serve(store)
    live = await world.one(CONTROLLER_REVISION)
    data = live["data"]
    source = {
        "repo": "org/llama",
        "requestedRevision": "main",
        "commit": data["source"]["commit"],
        "digest": data["source"]["digest"],
        "sizeBytes": data["source"]["sizeBytes"],
    }
    parsed = parse_revision({**live, "data": {**data, "source": source}})
    assert parsed.record.source.origin == HuggingFaceOrigin(repo="org/llama", commit=source["commit"])
    assert parsed.record == parse_revision(live).record
