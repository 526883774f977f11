"""What a change of each field of the spec leads to, and the revision that a spec stands for.

A revision is named by the leaves that need new graphs or new serving pods. A leaf that equals its default is left out,
so that a later version's new fields, which start at their defaults, rename no revision.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, get_args

from pydantic import BaseModel

from neuron_runtime.contract.digests import digest_of, short

from .v1alpha1 import NeuronModelSpec


class Impact(StrEnum):
    """What a change leads to, from the largest to the smallest."""

    RECOMPILE = "Recompile"
    """Other graphs or weights, hence another artifact and a new serving revision."""
    NEW_REVISION = "NewRevision"
    """New serving pods with the same graphs; only another store has to be given them first."""
    IN_PLACE = "InPlace"
    """A change of what runs; no pod is replaced."""
    CONTROL_ONLY = "ControlOnly"
    """Another behavior of the operator; nothing that runs changes."""


IMPACT: dict[str, Impact] = {
    "model.huggingFace.repo": Impact.RECOMPILE,
    "model.huggingFace.revision": Impact.RECOMPILE,
    "model.huggingFace.endpoint": Impact.RECOMPILE,
    # Which token reads a source does not change what is in it: a rotated one restarts no pods.
    "model.huggingFace.tokenSecretRef.name": Impact.CONTROL_ONLY,
    "model.huggingFace.tokenSecretRef.key": Impact.CONTROL_ONLY,
    "model.s3.uri": Impact.RECOMPILE,
    "model.s3.region": Impact.RECOMPILE,
    "model.persistentVolumeClaim.claimName": Impact.RECOMPILE,
    "model.persistentVolumeClaim.path": Impact.RECOMPILE,
    "model.compiledArtifact.uri": Impact.RECOMPILE,
    "model.compiledArtifact.digest": Impact.RECOMPILE,
    "model.allowPickle": Impact.RECOMPILE,
    "model.servedName": Impact.NEW_REVISION,
    "model.task": Impact.RECOMPILE,
    "runtime.engine": Impact.RECOMPILE,
    "shapes.maxModelLength": Impact.RECOMPILE,
    "shapes.maxBatchSize": Impact.RECOMPILE,
    "shapes.buckets.contextLengths": Impact.RECOMPILE,
    "shapes.dtype": Impact.RECOMPILE,
    "shapes.quantization": Impact.RECOMPILE,
    "hardware.target": Impact.RECOMPILE,
    "compile.timeout": Impact.CONTROL_ONLY,
    "compile.retry.maxAttempts": Impact.CONTROL_ONLY,
    "compile.resources.requests": Impact.CONTROL_ONLY,
    "compile.resources.limits": Impact.CONTROL_ONLY,
    "artifactStore.s3.bucket": Impact.NEW_REVISION,
    "artifactStore.s3.prefix": Impact.NEW_REVISION,
    "artifactStore.s3.region": Impact.NEW_REVISION,
    "serving.replicas": Impact.IN_PLACE,
    "serving.resources.requests": Impact.NEW_REVISION,
    "serving.resources.limits": Impact.NEW_REVISION,
    "suspend": Impact.CONTROL_ONLY,
}

_IN_REVISION = frozenset({Impact.RECOMPILE, Impact.NEW_REVISION})


def spec_leaves(model: type[BaseModel] = NeuronModelSpec) -> Iterator[str]:
    """Paths of all leaves of the spec, with the names that manifests use. A map is one leaf."""
    for name, field in model.model_fields.items():
        path = field.alias or name
        nested = _nested_model(field.annotation)
        if nested is None:
            yield path
            continue
        yield from (f"{path}.{leaf}" for leaf in spec_leaves(nested))


def revision_inputs(spec: NeuronModelSpec) -> dict[str, Any]:
    """The leaves that a revision is made of, by path: those of its impact classes that differ from their defaults."""
    given = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    leaves = dict(_flatten(given, ""))
    return {path: value for path, value in leaves.items() if IMPACT[path] in _IN_REVISION}


def revision_hash(spec: NeuronModelSpec) -> str:
    """Name of the spec's revision: 10 hexadecimal digits."""
    return short(digest_of(revision_inputs(spec)))


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _flatten(document: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        path = f"{prefix}{name}"
        if path not in IMPACT:
            yield from _flatten(value, f"{path}.")
        elif value != {}:
            yield path, value
