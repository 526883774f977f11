"""The real model, compiled: its greedy answers are those of transformers in float32, token by token."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from neuron_localcluster.standins.models import ensure_smollm2
from neuron_runtime.contract.request import Shapes
from neuron_runtime.engines.base import DecodeRow, GenerationSession
from neuron_runtime.engines.cpu import CPUEngine
from support.compiled_model import compile_model, cpu_request, greedy, reference_greedy, reference_model

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(1500)]

_TOKENS = 64
_PROMPTS = (
    "The capital of France is",
    "Gravity is the force that",
    "def fibonacci(n):",
    "Once upon a time, in a village by the sea,",
    "The three primary colors are",
    "Water boils at",
    "List the planets of the solar system in their order from the sun:",
    "A compiler turns a program into instructions. " * 12 + "In short,",
)


def test_greedy_answers_are_those_of_transformers(tmp_path: Path) -> None:
    source = ensure_smollm2()
    shapes = Shapes(max_model_length=256, max_batch_size=2, context_lengths=(64,), token_generation_batches=(1,))
    manifest, _ = compile_model(source, tmp_path, cpu_request(shapes))
    started = time.perf_counter()
    session = CPUEngine().load(manifest, tmp_path / "artifact", source, threads=1)
    assert isinstance(session, GenerationSession)
    session.warm_up()
    loaded = time.perf_counter() - started
    reference = reference_model(source)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    prompts = [tokenizer.encode(prompt).ids for prompt in _PROMPTS]
    assert max(map(len, prompts)) > session.capabilities.prefill_tokens
    for number, prompt in enumerate(prompts):
        assert greedy(session, number % 2, prompt, _TOKENS) == reference_greedy(reference, prompt, _TOKENS), number
    steps = []
    for position in range(100, 130):
        begun = time.perf_counter()
        session.decode([DecodeRow(0, 42, position)])
        steps.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    sys.stdout.write(
        f"compile {manifest.timings}, largest process {peak:.2f} GiB; load and warm-up {loaded:.2f} s; "
        f"decode {1000 * float(np.median(steps)):.1f} ms per step (one sequence, one thread)\n"
    )
