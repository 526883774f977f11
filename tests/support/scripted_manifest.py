"""The manifest of an artifact without graphs and files, for tests that bring their own."""

from __future__ import annotations

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import digest_of
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target

_REQUEST = CompileRequest(
    engine=Engine.CPU,
    toolchain={"script": "1"},
    source_digest=digest_of("source"),
    shapes=Shapes(max_model_length=64, max_batch_size=1, context_lengths=(8,), token_generation_batches=(1,)),
    dtype=DType.FLOAT32,
    target=Target.CPU,
)
SCRIPTED_MANIFEST = ArtifactManifest(
    digest=_REQUEST.digest,
    request=_REQUEST,
    source_commit="c",
    graphs=(),
    files=(),
    tools={},
    timings={},
    created_at="2026-01-02T03:04:05Z",
)
