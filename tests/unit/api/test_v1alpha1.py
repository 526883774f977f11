"""How a NeuronModel is read."""

from typing import Any

import pytest
from pydantic import ValidationError

from neuron_operator.api.durations import duration_seconds
from neuron_operator.api.objects import Key
from neuron_operator.api.v1alpha1 import NeuronModel, TargetChoice


def manifest(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "neuron-operator.dev/v1alpha1",
        "kind": "NeuronModel",
        "metadata": {"name": "llama", "namespace": "ml", "uid": "u-1", "labels": {"team": "a"}, **metadata},
        "spec": {"model": {"huggingFace": {"repo": "org/llama"}}, **(spec or {})},
    }


def test_the_smallest_object_is_complete() -> None:
    model = NeuronModel.parse(manifest(generation=4, resourceVersion="17"))
    assert model.key == Key("ml", "llama")
    assert (model.metadata.generation, model.metadata.resource_version) == (4, "17")
    assert model.metadata.deletion_timestamp is None
    assert model.spec.model.hugging_face.revision == "main"
    assert model.spec.hardware.target is TargetChoice.AUTO
    assert model.spec.shapes.max_batch_size == 4
    assert model.spec.compile.timeout_seconds == 7200
    assert model.spec.artifact_store is None
    assert model.spec.serving.replicas == 1
    assert model.status == {}


def test_fields_of_a_newer_schema_are_ignored() -> None:
    assert NeuronModel.parse(manifest({"autoscaling": {"maxReplicas": 3}})).spec == NeuronModel.parse(manifest()).spec


def test_models_cannot_be_changed() -> None:
    model = NeuronModel.parse(manifest())
    with pytest.raises(ValidationError, match="frozen"):
        model.spec.serving.replicas = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("1h30m", 5400), ("90s", 90), ("1h1m1s", 3661), ("010m", 600)]
)
def test_durations(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"compile": {"timeout": "0s"}}, "spec.compile.timeout"),
        ({"compile": {"timeout": "169h"}}, "spec.compile.timeout"),
        ({"compile": {"timeout": "2 hours"}}, "spec.compile.timeout"),
        ({"model": {"huggingFace": {"repo": "https://hub/org/llama"}}}, "spec.model.huggingFace.repo"),
        ({"model": {"huggingFace": {"repo": "a/b", "revision": "a/../b"}}}, "spec.model.huggingFace.revision"),
        ({"model": {}}, "spec.model"),
        ({"artifactStore": {"s3": {"bucket": "My_Bucket"}}}, "spec.artifactStore.s3.bucket"),
        ({"artifactStore": {"s3": {"bucket": "abc", "prefix": "/a"}}}, "spec.artifactStore.s3.prefix"),
        ({"serving": {"replicas": -1}}, "spec.serving.replicas"),
        ({"serving": {"resources": {"limits": {"cpu": "two"}}}}, "spec.serving.resources.limits.cpu"),
        ({"serving": {"resources": {"limits": {"cpu": -1}}}}, "spec.serving.resources.limits.cpu"),
        ({"runtime": {"engine": "vllm"}}, "spec.runtime.engine"),
    ],
)
def test_what_slipped_past_the_schema_is_refused_by_name(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        NeuronModel.parse(manifest(spec))
    assert field in {".".join(map(str, error["loc"])) for error in caught.value.errors()}
