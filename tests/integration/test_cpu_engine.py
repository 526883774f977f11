"""The CPU engine on a real compiler: a tiny Llama, held against transformers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import Shapes
from neuron_runtime.engines.base import CompileProgress, DecodeRow, GenerationSession, Logits, PrefillRow
from neuron_runtime.engines.cpu import CPUEngine
from support.compiled_model import compile_model, cpu_request, greedy, reference_greedy, reference_model

_PREFILL = 16
_SHAPES = Shapes(max_model_length=64, max_batch_size=4, context_lengths=(_PREFILL,), token_generation_batches=(1, 4))


@dataclass
class _Compiled:
    source: Path
    manifest: ArtifactManifest
    progress: list[CompileProgress]
    session: GenerationSession
    reference: Any
# Three graphs are compiled for all of them.
pytestmark = pytest.mark.timeout(1200)



@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> _Compiled:
    """Compiled once, since that takes about a minute."""
    folder = tmp_path_factory.mktemp("engine")
    source = folder / "source"
    source.mkdir()
    tiny_llama(source, seed=7)
    manifest, progress = compile_model(source, folder, cpu_request(_SHAPES))
    session = CPUEngine().load(manifest, folder / "artifact", source, threads=1)
    assert isinstance(session, GenerationSession)
    session.warm_up()
    return _Compiled(source, manifest, progress, session, reference_model(source))


def _prompt(length: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(3, 300), k=length)


def _logits_after(session: GenerationSession, slot: int, tokens: list[int], start: int) -> Logits:
    logits = session.prefill([PrefillRow(slot, tokens, start)]).logits
    assert logits is not None
    return logits.copy()


@pytest.mark.parametrize("length", [1, 5, _PREFILL, _PREFILL + 1, 3 * _PREFILL - 3])
def test_greedy_tokens_are_those_of_transformers(compiled: _Compiled, length: int) -> None:
    """Prompts shorter than the prefill graph are filled up, longer ones run in chunks."""
    prompt = _prompt(length)
    assert greedy(compiled.session, 0, prompt, 14) == reference_greedy(compiled.reference, prompt, 14)


def test_a_sequence_may_fill_its_slot_to_the_last_position(compiled: _Compiled) -> None:
    prompt = _prompt(60)
    assert greedy(compiled.session, 3, prompt, 5) == reference_greedy(compiled.reference, prompt, 5)


def test_slots_do_not_see_each_other(compiled: _Compiled) -> None:
    """Sequences of different lengths, begun one after the other and advanced together, as if each were alone."""
    session, prompts = compiled.session, {slot: _prompt(3 + 11 * slot, seed=slot) for slot in (2, 0, 1)}
    expected = {slot: reference_greedy(compiled.reference, prompt, 8) for slot, prompt in prompts.items()}
    answers = {slot: greedy(session, slot, prompt, 1) for slot, prompt in prompts.items()}
    while len(answers[0]) < 8:
        rows = [DecodeRow(slot, answer[-1], len(prompts[slot]) + len(answer) - 1) for slot, answer in answers.items()]
        step = session.decode(rows)
        assert step.logits is not None
        assert step.tokens.tolist() == step.logits.argmax(axis=1).tolist()
        for row, token in zip(rows, step.tokens, strict=True):
            answers[row.slot].append(int(token))
    assert answers == expected


def test_a_slot_forgets_what_it_held(compiled: _Compiled) -> None:
    session, prompt = compiled.session, _prompt(7, seed=3)
    first = _logits_after(session, 1, prompt, 0)
    for start in range(0, 64, _PREFILL):
        session.prefill([PrefillRow(1, _prompt(_PREFILL, seed=4), start)])
    session.release(1)
    np.testing.assert_array_equal(_logits_after(session, 1, prompt, 0), first)


@pytest.mark.parametrize(
    "rows",
    [
        [DecodeRow(4, 5, 0)],
        [DecodeRow(-1, 5, 0)],
        [DecodeRow(0, 5, 64)],
        [DecodeRow(0, 5, -1)],
        [DecodeRow(0, -1, 0)],
        [DecodeRow(0, 10**6, 0)],
        [DecodeRow(1, 5, 0), DecodeRow(1, 5, 1)],
        [],
    ],
)
def test_rows_beyond_the_caches_are_refused(compiled: _Compiled, rows: list[DecodeRow]) -> None:
    with pytest.raises(ValueError, match=r"slots|tokens|positions|sequences"):
        compiled.session.decode(rows)


def test_prompts_beyond_the_graphs_are_refused(compiled: _Compiled) -> None:
    with pytest.raises(ValueError, match="graphs take 1 to 16"):
        compiled.session.prefill([PrefillRow(0, _prompt(_PREFILL + 1), 0)])
    with pytest.raises(ValueError, match="positions"):
        compiled.session.prefill([PrefillRow(0, _prompt(_PREFILL), 50)])


def test_progress_moves_steadily_to_its_end(compiled: _Compiled) -> None:
    done = [progress.done for progress in compiled.progress]
    assert done == sorted(done)
    assert len(set(done)) > 5
    assert compiled.progress[0].detail == "prefill-16, decode-1"
    # How far the last report before the end is, and what it still expects, depends on what else the machine does.
    assert all(0 <= progress.done <= progress.total for progress in compiled.progress)
    assert all((progress.eta_seconds or 0) >= 0 for progress in compiled.progress)
    assert set(compiled.manifest.timings) == {"prefill-16", "decode-1", "decode-4", "weights"}


def test_graphs_share_the_weights(compiled: _Compiled) -> None:
    """Each graph's package is smaller than the weights, which would be in it otherwise."""
    artifact = compiled.source.parent / "artifact"
    assert {file.name for file in artifact.iterdir()} == {
        *(graph.path for graph in compiled.manifest.graphs),
        "weights.safetensors",
    }


def test_an_artifact_of_another_toolchain_is_not_loaded(compiled: _Compiled) -> None:
    engine = CPUEngine()
    engine.check(compiled.manifest)
    toolchain = {**compiled.manifest.request.toolchain, "torch": "1.0.0"}
    other = compiled.manifest.model_copy(update={"request": cpu_request(_SHAPES, toolchain=toolchain)})
    with pytest.raises(ContainerFailure, match=r"not 1\.0\.0") as caught:
        engine.check(other)
    assert caught.value.code is FailureCode.ARTIFACT_INCOMPATIBLE


@pytest.mark.parametrize(
    ("does", "code", "named"),
    [
        ("echo the disk is full >&2; exit 1", FailureCode.COMPILER_FAILED, "the disk is full"),
        ("kill -KILL $PPID", FailureCode.OUT_OF_MEMORY, r"(prefill-16|decode-1) was killed"),
    ],
)
def test_what_becomes_of_a_compiler_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, code: FailureCode, named: str
) -> None:
    """A compiler that knows its version and does nothing else right."""
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\ncase "$1" in -*version) exec g++ "$1";; esac\n{does}\n')
    compiler.chmod(0o755)
    source = tmp_path / "source"
    source.mkdir()
    tiny_llama(source)
    request = cpu_request(_SHAPES)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(ContainerFailure, match=named) as caught:
        compile_model(source, tmp_path, request)
    assert caught.value.code is code
