"""Samples of what the operator's domain works on: models, recorded revisions, Jobs, pods and Deployments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from neuron_operator.api.impact import revision_hash, revision_inputs
from neuron_operator.api.objects import Manifest
from neuron_operator.api.status import MemoryStatus, PlanStatus
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.model.resources.compile_job import compile_job
from neuron_operator.model.resources.deployment import rendered_deployment
from neuron_operator.model.revision import (
    RecordedSource,
    Revision,
    RevisionRecord,
    controller_revision,
    namespace_domain,
    parse_revision,
)
from neuron_operator.settings import CPUEngineSettings, PlatformSettings
from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.origin import HuggingFaceOrigin
from neuron_runtime.contract.outcome import FailureCode, TerminationMessage, exit_code_of
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target
from neuron_runtime.contract.store import StoreLocation

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW_TEXT = "2026-01-01T12:00:00Z"

SETTINGS = PlatformSettings(
    cpu=CPUEngineSettings(
        compile_image="example/compile:1",
        serving_image="example/serve:1",
        toolchain={"torch": "2", "march": "x86-64-v3"},
    ),
    pod_environment={"HF_ENDPOINT": "http://hub.example", "NO_PROXY": ""},
)


def model(
    spec: dict[str, Any] | None = None, *, name: str = "llama", uid: str = "uid-llama", **fields: Any
) -> NeuronModel:
    """A model of the API server, with `spec` over the smallest useful one and `fields` over its metadata."""
    return NeuronModel.parse(
        {
            "apiVersion": "neuron-operator.dev/v1alpha1",
            "kind": "NeuronModel",
            "metadata": {
                "name": name,
                "namespace": "ml",
                "uid": uid,
                "generation": 3,
                "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T11:00:00Z",
                **fields,
            },
            "spec": {
                "model": {"huggingFace": {"repo": "org/llama"}},
                "artifactStore": {"s3": {"bucket": "artifacts"}},
                **(spec or {}),
            },
        }
    )


def record(of: NeuronModel, settings: PlatformSettings = SETTINGS) -> RevisionRecord:
    """What a revision of the model keeps."""
    request = CompileRequest(
        engine=Engine.CPU,
        toolchain=settings.cpu.toolchain,
        source_digest=f"sha256:{'5' * 64}",
        shapes=Shapes(max_model_length=512, max_batch_size=4, context_lengths=(64,), token_generation_batches=(1,)),
        dtype=DType.FLOAT32,
        target=Target.CPU,
    )
    store = StoreLocation(bucket="artifacts", prefix="team", domain=namespace_domain(of.metadata.namespace))
    serving = ServingSpec(
        artifact_digest=request.digest,
        source_digest=request.source_digest,
        engine=request.engine,
        store=store,
        served_name=of.metadata.name,
    )
    return RevisionRecord(
        inputs=revision_inputs(of.spec),
        source=RecordedSource(
            origin=HuggingFaceOrigin(repo="org/llama", commit="c" * 40),
            location="org/llama",
            requested_revision="main",
            commit="c" * 40,
            digest=request.source_digest,
            size_bytes=2**40,
        ),
        plan=PlanStatus(
            engine="CPU",
            target="CPU",
            hardware="CPU",
            tensor_parallel_size=1,
            dtype="Float32",
            max_model_length=512,
            max_batch_size=4,
            context_lengths=[64],
            token_generation_batches=[1],
            memory=MemoryStatus(weights_bytes=1, kv_cache_bytes=2, workspace_bytes=3, total_bytes=6),
            explanation="It fits.",
        ),
        request=request,
        artifact_digest=request.digest,
        store=store,
        compile_image=settings.cpu.compile_image,
        compile_memory=6 * 2**30 + 1,
        compile_workers=2,
        deployment=rendered_deployment(of, revision_hash(of.spec), serving, settings, memory=2**30),
    )


def revision(of: NeuronModel, number: int = 1) -> Revision:
    """The model's revision as it was recorded."""
    return parse_revision(controller_revision(of, revision_hash(of.spec), number, record(of)))


def job(
    of: NeuronModel,
    *,
    attempt: int = 1,
    failures: int = 0,
    uid: str = "uid-job",
    conditions: list[Manifest] | None = None,
) -> Manifest:
    """A compile Job of the model as the API server gives it."""
    manifest = compile_job(of, revision(of), SETTINGS, attempt=attempt, failures=failures)
    manifest["metadata"] = {**manifest["metadata"], "uid": uid, "resourceVersion": "1"}
    manifest["metadata"]["creationTimestamp"] = "2026-01-01T11:59:00Z"
    manifest["status"] = {"startTime": "2026-01-01T11:30:00Z", "conditions": conditions or []}
    return manifest


def condition(type_: str, reason: str = "", status: str = "True") -> Manifest:
    """A condition of a Job or Deployment."""
    return {"type": type_, "status": status, "reason": reason, "message": "as it is", "lastTransitionTime": NOW_TEXT}


def pod(
    *,
    uid: str = "uid-pod",
    owner: str = "uid-job",
    phase: str = "Running",
    container: Manifest | None = None,
    created: str = "2026-01-01T11:31:00Z",
    **status: Any,
) -> Manifest:
    """A pod of one container."""
    statuses = [] if container is None else [container]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": uid,
            "namespace": "ml",
            "uid": uid,
            "creationTimestamp": created,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Owner", "name": "o", "uid": owner, "controller": True}],
        },
        "status": {"phase": phase, "containerStatuses": statuses, **status},
    }


def terminated(code: FailureCode | None, message: str = "It broke", *, time: str = NOW_TEXT) -> Manifest:
    """`terminated` of a container of ours that ended with this code; None for success."""
    if code is None:
        return {"exitCode": 0, "finishedAt": time, "message": TerminationMessage().encode()}
    left = TerminationMessage(code=code, message=message).encode()
    return {"exitCode": int(exit_code_of(code)), "finishedAt": time, "message": left, "reason": "Error"}


def ended(last: Manifest) -> Manifest:
    """Status of a container that has terminated and is not started again."""
    return {"name": "c", "ready": False, "restartCount": 0, "state": {"terminated": last}}


def restarting(last: Manifest, restarts: int = 1) -> Manifest:
    """Status of a container between two starts."""
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}
    return {
        "name": "c",
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": waiting},
        "lastState": {"terminated": last},
    }


def waiting(reason: str, message: str = "") -> Manifest:
    """Status of a container that was not started."""
    return {
        "name": "c",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }


def running(ready: bool = True) -> Manifest:
    """Status of a container that runs."""
    return {"name": "c", "ready": ready, "restartCount": 0, "state": {"running": {"startedAt": NOW_TEXT}}}
