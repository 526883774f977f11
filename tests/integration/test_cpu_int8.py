"""Weights in int8 on a real compiler: a tiny Llama, held against transformers with the same rounded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.contract.request import Quantization, Shapes
from neuron_runtime.engines.base import GenerationSession, PrefillRow
from neuron_runtime.engines.cpu import CPUEngine
from support.compiled_model import compile_model, cpu_request, reference_greedy, reference_model
from support.rounded_weights import rounded_reference

pytestmark = pytest.mark.timeout(1200)

_PROMPT = [5, 80, 3, 211, 77, 140, 9, 33, 256, 41, 18, 122]
# One graph, since each is half a minute: what a decode graph does otherwise is the product of fewer rows.
_SHAPES = Shapes(max_model_length=64, max_batch_size=2, context_lengths=(16,), token_generation_batches=())


class _Compiled(NamedTuple):
    source: Path
    session: GenerationSession
    rounded: Any


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> _Compiled:
    folder = tmp_path_factory.mktemp("int8")
    source = folder / "source"
    source.mkdir()
    tiny_llama(source, seed=7)
    manifest, _ = compile_model(source, folder, cpu_request(_SHAPES, quantization=Quantization.INT8))
    session = CPUEngine().load(manifest, folder / "artifact", source, threads=1)
    assert isinstance(session, GenerationSession)
    return _Compiled(source, session, rounded_reference(source))


def _reference_logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor([_PROMPT])).logits[0, -1].numpy()


def test_logits_are_those_of_the_rounded_weights(compiled: _Compiled) -> None:
    logits = compiled.session.prefill([PrefillRow(1, _PROMPT, 0)]).logits
    assert logits is not None
    rounded, exact = _reference_logits(compiled.rounded), _reference_logits(reference_model(compiled.source))
    spread = rounded.std()
    np.testing.assert_allclose(logits[0], rounded, rtol=0, atol=1e-5 * spread)
    # Else it would not have been noticed had nothing been rounded.
    assert np.abs(exact - rounded).max() > 1e-3 * spread


def test_greedy_tokens_are_those_of_the_rounded_weights(compiled: _Compiled) -> None:
    tokens = [int(compiled.session.prefill([PrefillRow(0, _PROMPT, 0)]).tokens[0])]
    while len(tokens) < 14:
        row = PrefillRow(0, tokens[-1:], len(_PROMPT) + len(tokens) - 1)
        tokens.append(int(compiled.session.prefill([row]).tokens[0]))
    assert tokens == reference_greedy(compiled.rounded, _PROMPT, 14)
