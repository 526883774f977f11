"""Every leaf of the spec has an impact class, and a revision is named by exactly the leaves that need one."""

import copy
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_operator.api.impact import IMPACT, Impact, revision_hash, revision_inputs, spec_leaves
from neuron_operator.api.v1alpha1 import NeuronModelSpec

MINIMAL: dict[str, Any] = {"model": {"huggingFace": {"repo": "HuggingFaceTB/SmolLM2-135M-Instruct"}}}
# The smallest spec of each other kind of source.
SOURCES: dict[str, dict[str, Any]] = {
    "model.s3": {"model": {"s3": {"uri": "s3://models/llama"}}},
    "model.persistentVolumeClaim": {"model": {"persistentVolumeClaim": {"claimName": "models"}}},
    "model.compiledArtifact": {
        "model": {
            "compiledArtifact": {
                "uri": f"s3://artifacts/shared/artifacts/{'a' * 64}",
                "digest": f"sha256:{'a' * 64}",
            }
        }
    },
}

# For each leaf a value that is not its default.
OTHER_VALUES: dict[str, Any] = {
    "model.huggingFace.repo": "other/model",
    "model.huggingFace.revision": "v2",
    "model.huggingFace.endpoint": "https://hub.example.com",
    "model.huggingFace.tokenSecretRef.name": "other",
    "model.huggingFace.tokenSecretRef.key": "other",
    "model.s3.uri": "s3://models/other",
    "model.s3.region": "eu-central-1",
    "model.persistentVolumeClaim.claimName": "other",
    "model.persistentVolumeClaim.path": "llama",
    "model.compiledArtifact.uri": f"s3://artifacts/shared/artifacts/{'b' * 64}",
    "model.compiledArtifact.digest": f"sha256:{'b' * 64}",
    "model.allowPickle": True,
    "model.servedName": "smol",
    "model.task": "Embedding",
    "runtime.engine": "CPU",
    "shapes.maxModelLength": 1024,
    "shapes.maxBatchSize": 8,
    "shapes.quantization": "Int8",
    "shapes.buckets.contextLengths": [16, 64],
    "hardware.target": "CPU",
    "compile.timeout": "30m",
    "compile.retry.maxAttempts": 5,
    "compile.resources.requests": {"cpu": "2"},
    "compile.resources.limits": {"memory": "4Gi"},
    "artifactStore.s3.bucket": "artifacts",
    "artifactStore.s3.prefix": "team",
    "artifactStore.s3.region": "eu-central-1",
    "serving.replicas": 2,
    "serving.resources.requests": {"cpu": "2"},
    "serving.resources.limits": {"memory": "4Gi"},
    "suspend": True,
}
# Leaves whose type has a single value so far.
SINGLE_VALUED = {"shapes.dtype"}


def with_leaf(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    node = changed
    *parents, last = path.split(".")
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return changed


def base_of(path: str) -> dict[str, Any]:
    """A spec that is whole with and without the leaf."""
    for source, document in SOURCES.items():
        if path.startswith(source):
            return document
    if path.startswith("artifactStore"):
        return with_leaf(MINIMAL, "artifactStore.s3.bucket", "before")
    if "tokenSecretRef" in path:
        return with_leaf(MINIMAL, "model.huggingFace.tokenSecretRef", {"name": "before", "key": "before"})
    return MINIMAL


def spec_of(document: dict[str, Any]) -> NeuronModelSpec:
    return NeuronModelSpec.model_validate(document)


def shuffled(document: Any, order: random.Random) -> Any:
    if not isinstance(document, dict):
        return document
    names = list(document)
    order.shuffle(names)
    return {name: shuffled(document[name], order) for name in names}


def test_every_leaf_has_a_class_and_every_class_a_leaf() -> None:
    assert set(IMPACT) == set(spec_leaves())
    assert set(IMPACT.values()) == set(Impact)


def test_the_values_tried_here_cover_every_leaf() -> None:
    assert set(OTHER_VALUES) | SINGLE_VALUED == set(IMPACT)


@pytest.mark.parametrize("path", OTHER_VALUES)
def test_a_leaf_renames_the_revision_exactly_when_its_class_says_so(path: str) -> None:
    base = base_of(path)
    renamed = revision_hash(spec_of(with_leaf(base, path, OTHER_VALUES[path]))) != revision_hash(spec_of(base))
    assert renamed == (IMPACT[path] in {Impact.RECOMPILE, Impact.NEW_REVISION})


def test_the_hash_of_a_released_spec_never_changes() -> None:
    assert revision_inputs(spec_of(MINIMAL)) == {"model.huggingFace.repo": "HuggingFaceTB/SmolLM2-135M-Instruct"}
    assert revision_hash(spec_of(MINIMAL)) == "e6d4bea6cb"


def test_an_amount_is_the_same_as_integer_and_as_text() -> None:
    integer = with_leaf(MINIMAL, "serving.resources.requests", {"cpu": 2})
    text = with_leaf(MINIMAL, "serving.resources.requests", {"cpu": "2"})
    assert revision_hash(spec_of(integer)) == revision_hash(spec_of(text))


# Those that are whole without another leaf.
_ALONE = [path for path in OTHER_VALUES if base_of(path) is MINIMAL or path == "artifactStore.s3.bucket"]
leaf_choices = st.sets(st.sampled_from(sorted(_ALONE)))


@given(leaves=leaf_choices, order=st.randoms(use_true_random=False))
def test_written_out_defaults_and_the_order_of_keys_do_not_matter(leaves: set[str], order: random.Random) -> None:
    document = MINIMAL
    for path in leaves:
        document = with_leaf(document, path, OTHER_VALUES[path])
    spec = spec_of(document)
    # What the API server answers: every default written out.
    complete = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert revision_hash(spec_of(shuffled(complete, order))) == revision_hash(spec)


@given(first=leaf_choices, second=leaf_choices)
def test_two_specs_share_a_revision_only_if_their_revision_leaves_are_equal(first: set[str], second: set[str]) -> None:
    def document_of(leaves: set[str]) -> dict[str, Any]:
        document = MINIMAL
        for path in leaves:
            document = with_leaf(document, path, OTHER_VALUES[path])
        return document

    def relevant(leaves: set[str]) -> set[str]:
        return {path for path in leaves if IMPACT[path] in {Impact.RECOMPILE, Impact.NEW_REVISION}}

    equal = revision_hash(spec_of(document_of(first))) == revision_hash(spec_of(document_of(second)))
    assert equal == (relevant(first) == relevant(second))
