"""A model folder compiled and loaded by the CPU engine, beside what transformers makes of the same folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target
from neuron_runtime.engines.base import CompileProgress, DecodeRow, GenerationSession, PrefillRow
from neuron_runtime.engines.cpu import CPUEngine
from neuron_runtime.store import describe_files

TINY_SHAPES = Shapes(
    max_model_length=64,
    max_batch_size=4,
    context_lengths=(16,),
    token_generation_batches=(4, 12),
)
"""Those of the two-layer model that the tests of the engine and of the server share."""


@dataclass(frozen=True)
class CompiledModel:
    """A model and what it was compiled to."""

    source: Path
    artifact: Path
    manifest: ArtifactManifest
    progress: list[CompileProgress]
    """Every progress that was reported."""


def cpu_request(shapes: Shapes, **changes: Any) -> CompileRequest:
    """A request that this machine's toolchain can compile."""
    fields: dict[str, Any] = {
        "engine": Engine.CPU,
        "toolchain": {**CPUEngine().toolchain(), "march": "x86-64-v3"},
        "source_digest": f"sha256:{'5' * 64}",
        "shapes": shapes,
        "dtype": DType.FLOAT32,
        "target": Target.CPU,
    }
    return CompileRequest(**{**fields, **changes})


def compile_model(
    source: Path, folder: Path, request: CompileRequest
) -> tuple[ArtifactManifest, list[CompileProgress]]:
    """Compile into `folder / "artifact"`; the manifest, and every progress that was reported."""
    engine, reported = CPUEngine(), list[CompileProgress]()
    compiled = engine.compile(request, source, folder / "artifact", threads=1, workers=2, report=reported.append)
    manifest = ArtifactManifest(
        digest=request.digest,
        request=request,
        source_commit="c" * 40,
        graphs=compiled.graphs,
        files=describe_files(folder / "artifact"),
        tools=compiled.tools,
        timings=compiled.timings,
        created_at="2026-01-01T00:00:00Z",
    )
    return manifest, reported


def greedy(session: GenerationSession, slot: int, prompt: Sequence[int], count: int) -> list[int]:
    """The likeliest tokens after a prompt, which runs in chunks of what the largest graph takes."""
    chunk = session.capabilities.prefill_tokens
    for start in range(0, len(prompt), chunk):
        step = session.prefill([PrefillRow(slot, prompt[start : start + chunk], start)])
    tokens = [int(step.tokens[0])]
    while len(tokens) < count:
        position = len(prompt) + len(tokens) - 1
        tokens.append(int(session.decode([DecodeRow(slot, tokens[-1], position)]).tokens[0]))
    return tokens


def reference_model(source: Path) -> Any:
    """The model in transformers, in float32."""
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    return model.eval()


def reference_greedy(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    """What transformers generates greedily, not stopping at any token."""
    ids = torch.tensor([list(prompt)])
    with torch.no_grad():
        answer = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
        )
    tokens: list[int] = answer[0, len(prompt) :].tolist()
    return tokens
