"""Seeded edits of specs: each leads from one valid spec to another, and all leaves of the schema take part."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]

START: Spec = {"model": {"huggingFace": {"repo": "org/llama"}}, "artifactStore": {"s3": {"bucket": "artifacts"}}}

SOURCES: Mapping[str, Sequence[Any]] = {
    "huggingFace": (
        {"repo": "org/llama"},
        {"repo": "org/other", "revision": "v2"},
        {"repo": "org/gated", "tokenSecretRef": {"name": "hugging-face", "key": "token"}},
        {"repo": "org/gated", "tokenSecretRef": {"name": "rotated", "key": "other"}},
        {"repo": "org/llama", "endpoint": "https://hub.example.com"},
    ),
    "s3": ({"uri": "s3://models/llama"}, {"uri": "s3://models/llama", "region": "eu-central-1"}),
    "persistentVolumeClaim": ({"claimName": "models"}, {"claimName": "models", "path": "llama"}),
}
"""An artifact that was compiled elsewhere is left out: what it was compiled from decides whether a spec fits it."""

VALUES: Mapping[str, Sequence[Any]] = {
    "model.servedName": (None, "chat", "org/llama:chat"),
    # Of what the sources here hold, an encoder is none: a spec that is refused is a state as well.
    "model.task": ("TextGeneration", "TextGeneration", "Embedding"),
    "model.allowPickle": (False, True),
    "runtime.engine": ("Auto", "CPU"),
    "shapes.maxModelLength": (None, 128, 256),
    "shapes.maxBatchSize": (1, 4),
    "shapes.buckets.contextLengths": (None, [16, 64], [32]),
    "shapes.dtype": ("Float32",),
    "shapes.quantization": ("None", "Int8"),
    "hardware.target": ("Auto", "CPU"),
    "compile.timeout": ("2h", "30m"),
    "compile.retry.maxAttempts": (1, 3),
    "compile.resources.requests": (None, {"cpu": "1"}),
    "compile.resources.limits": (None, {"memory": "8Gi"}),
    "artifactStore.s3.bucket": ("artifacts",),
    "artifactStore.s3.prefix": ("", "team"),
    "artifactStore.s3.region": (None, "eu-central-1"),
    "serving.replicas": (0, 1, 2, 3),
    "serving.resources.requests": (None, {"cpu": "100m"}),
    "serving.resources.limits": (None, {"memory": "4Gi"}),
    "suspend": (False, False, True),
}


def edited(spec: Spec, chance: random.Random) -> Spec:
    """The spec after one edit: another source, or one to three leaves with another value."""
    changed = copy.deepcopy(spec)
    if chance.random() < 0.15:
        kind = chance.choice(sorted(SOURCES))
        for other in SOURCES:
            changed["model"].pop(other, None)
        changed["model"][kind] = copy.deepcopy(chance.choice(SOURCES[kind]))
        return changed
    for path in chance.sample(sorted(VALUES), chance.randint(1, 3)):
        _set(changed, path, copy.deepcopy(chance.choice(VALUES[path])))
    return changed


def serving(spec: Spec) -> Spec:
    """The spec as one that comes to serve: what is suspended or refused keeps what it had before."""
    changed = copy.deepcopy(spec)
    _set(changed, "suspend", False)
    _set(changed, "model.task", "TextGeneration")
    return changed


def _set(spec: Spec, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    node = spec
    for name in parents:
        node = node.setdefault(name, {})
    if value is None:
        node.pop(last, None)
    else:
        node[last] = value
