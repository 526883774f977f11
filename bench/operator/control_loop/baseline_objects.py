"""What the handlers of `baseline` create, and read off what they see. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from neuron_operator.hub import HubSource
from neuron_operator.planning.model_facts import model_facts
from neuron_operator.planning.planner import Wishes, plan
from neuron_runtime.contract.launch import COMPILE_SPEC_VARIABLE, SERVING_SPEC_VARIABLE, CompileSpec, ServingSpec
from neuron_runtime.contract.origin import HuggingFaceOrigin
from neuron_runtime.contract.request import CompileRequest, DType
from neuron_runtime.contract.source import source_digest
from neuron_runtime.contract.store import StoreLocation

LABEL = "bench.example/model"

_TOOLCHAIN = {"torch": "2", "cxx": "g++-12", "march": "x86-64-v3"}


def request_for(source: HubSource, spec: dict[str, Any]) -> CompileRequest:
    shapes = spec["shapes"]
    wishes = Wishes(shapes.get("maxModelLength"), shapes["maxBatchSize"], DType(shapes["dtype"]))
    chosen = plan(model_facts(source.config), wishes)
    return CompileRequest(
        engine=chosen.engine,
        toolchain=_TOOLCHAIN,
        source_digest=source_digest(source.files),
        shapes=chosen.shapes,
        dtype=chosen.dtype,
        quantization=chosen.quantization,
        target=chosen.target,
    )


def store_of(spec: dict[str, Any], namespace: str) -> StoreLocation:
    return StoreLocation(bucket=spec["artifactStore"]["s3"]["bucket"], domain=f"ns/{namespace}")


def compile_job(model: Any, request: CompileRequest, source: HubSource) -> dict[str, Any]:
    spec = CompileSpec(
        request=request,
        origin=HuggingFaceOrigin(repo=source.repo, commit=source.commit),
        store=store_of(model["spec"], model["metadata"]["namespace"]),
    )
    name = f"{model['metadata']['name']}-{request.digest[7:15]}"
    pod = _pod("compile", {COMPILE_SPEC_VARIABLE: spec.to_json()}, restart="Never")
    template = {"metadata": {"labels": _labels(model)}, "spec": pod}
    job_spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(model, name), "spec": job_spec}


def deployment(model: Any, request: CompileRequest) -> dict[str, Any]:
    metadata = model["metadata"]
    spec = ServingSpec(
        artifact_digest=request.digest,
        source_digest=request.source_digest,
        engine=request.engine,
        store=store_of(model["spec"], metadata["namespace"]),
        served_name=metadata["name"],
    )
    pod = _pod("server", {SERVING_SPEC_VARIABLE: spec.to_json()}, restart="Always")
    pod["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/readyz", "port": 8080}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(model, f"{metadata['name']}-{request.digest[7:15]}"),
        "spec": {
            "replicas": model["spec"]["serving"]["replicas"],
            "selector": {"matchLabels": _labels(model)},
            "template": {"metadata": {"labels": _labels(model)}, "spec": pod},
        },
    }


def service(model: Any) -> dict[str, Any]:
    spec = {"selector": _labels(model), "ports": [{"name": "http", "port": 8080}]}
    metadata = _metadata(model, model["metadata"]["name"])
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def status_of(model: Any, phase: str, reason: str, message: str) -> dict[str, Any]:
    """The status, with the times of conditions kept that say what they said."""
    generation = model["metadata"]["generation"]
    condition = {
        "type": "Ready",
        "status": "True" if phase == "Ready" else "False",
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
    }
    for known in (model.get("status") or {}).get("conditions") or []:
        if {**known, "lastTransitionTime": None} == {**condition, "lastTransitionTime": None}:
            condition = dict(known)
    condition.setdefault("lastTransitionTime", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    return {"observedGeneration": generation, "phase": phase, "message": message, "conditions": [condition]}


def is_complete(job: Any) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(found["type"] == "Complete" and found["status"] == "True" for found in conditions)


def is_available(live: Any) -> bool:
    status, wanted = live.get("status") or {}, live["spec"]["replicas"]
    seen = (status.get("observedGeneration") or 0) >= live["metadata"]["generation"]
    return bool(seen and status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == wanted)


def _labels(model: Any) -> dict[str, str]:
    return {LABEL: model["metadata"]["name"]}


def _metadata(model: Any, name: str) -> dict[str, Any]:
    owner = {
        "apiVersion": "neuron-operator.dev/v1alpha1",
        "kind": "NeuronModel",
        "name": model["metadata"]["name"],
        "uid": model["metadata"]["uid"],
        "controller": True,
    }
    return {
        "name": name,
        "namespace": model["metadata"]["namespace"],
        "labels": _labels(model),
        "ownerReferences": [owner],
    }


def _pod(name: str, environment: dict[str, str], restart: str) -> dict[str, Any]:
    variables = [{"name": key, "value": value} for key, value in environment.items()]
    container = {
        "name": name,
        "image": f"neuron-operator.dev/{name}:bench",
        "command": ["python3", "-m", "neuron_runtime"],
        "env": variables,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
    }
    return {"restartPolicy": restart, "containers": [container]}
