"""The CPU engine on a real compiler: a tiny Llama, held against transformers."""

from __future__ import annotations

import ctypes
import json
import random
import shutil
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.engines.aot_inductor import Graph, Tensor
from neuron_runtime.engines.base import CompileProgress, DecodeRow, GenerationSession, Logits, PrefillRow
from neuron_runtime.engines.cpu import CPUEngine
from neuron_runtime.engines.weight_file import WEIGHTS, map_weights
from support.compiled_model import (
    TINY_SHAPES,
    CompiledModel,
    compile_model,
    cpu_request,
    greedy,
    reference_greedy,
    reference_model,
)

# Three graphs are compiled for all of them.
pytestmark = pytest.mark.timeout(1200)

_PREFILL = TINY_SHAPES.context_lengths[-1]
_GRAPHS = ("prefill-16x64", "decode-4x64", "decode-12x64")


@dataclass
class _Compiled:
    source: Path
    artifact: Path
    manifest: ArtifactManifest
    progress: list[CompileProgress]
    session: GenerationSession
    reference: Any


@pytest.fixture(scope="module")
def compiled(tiny_model: CompiledModel) -> _Compiled:
    source, artifact, manifest = tiny_model.source, tiny_model.artifact, tiny_model.manifest
    session = CPUEngine().load(manifest, artifact, source, threads=1)
    assert isinstance(session, GenerationSession)
    session.warm_up()
    return _Compiled(source, artifact, manifest, tiny_model.progress, session, reference_model(source))


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


def test_prompts_run_beside_rows_that_are_decoded(compiled: _Compiled) -> None:
    """In chunks, while another slot's answer goes on: each as if it were alone."""
    session, first, second = compiled.session, _prompt(9, seed=5), _prompt(21, seed=6)
    answer = greedy(session, 1, first, 1)
    for start in range(0, len(second), 7):
        chunk = PrefillRow(2, second[start : start + 7], start)
        step = session.decode([DecodeRow(1, answer[-1], len(first) + len(answer) - 1)], [chunk])
        answer.append(int(step.tokens[0]))
    begun = [int(step.tokens[1])]
    begun.append(int(session.decode([DecodeRow(2, begun[0], len(second))]).tokens[0]))
    assert answer == reference_greedy(compiled.reference, first, 4)
    assert begun == reference_greedy(compiled.reference, second, 2)


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
    with pytest.raises(ValueError, match="the graphs take 4 of 4, 12 of 12, 1 of 16"):
        compiled.session.prefill([PrefillRow(0, _prompt(_PREFILL + 1), 0)])
    with pytest.raises(ValueError, match="positions"):
        compiled.session.prefill([PrefillRow(0, _prompt(_PREFILL), 50)])


def test_progress_moves_steadily_to_its_end(compiled: _Compiled) -> None:
    done = [progress.done for progress in compiled.progress]
    assert done == sorted(done)
    assert len(set(done)) > 5
    assert compiled.progress[0].detail == ", ".join(_GRAPHS[:2])
    # How far the last report before the end is, and what it still expects, depends on what else the machine does.
    assert all(0 <= progress.done <= progress.total for progress in compiled.progress)
    assert all((progress.eta_seconds or 0) >= 0 for progress in compiled.progress)
    assert set(compiled.manifest.timings) == {*_GRAPHS, "weights"}


def test_the_artifact_is_machine_code_and_weights(compiled: _Compiled) -> None:
    assert {file.name for file in compiled.artifact.iterdir()} == {
        *(graph.path for graph in compiled.manifest.graphs),
        "weights.safetensors",
    }


def _inputs(compiled: _Compiled) -> list[npt.NDArray[Any]]:
    """For `prefill-16x64`: tokens, slots, positions, last, and caches that are not empty."""
    generator = np.random.default_rng(1)
    shape = compiled.session.capabilities.slots, TINY_SHAPES.max_model_length + 1, 2, 16
    caches = [generator.standard_normal(shape, np.float32) for _ in range(4)]
    return [
        np.array(_prompt(_PREFILL)),
        np.full(_PREFILL, 2),
        np.arange(10, 10 + _PREFILL),
        np.array([_PREFILL - 2]),
        *caches,
    ]


def test_the_c_interface_does_what_the_package_loader_does(compiled: _Compiled, tmp_path: Path) -> None:
    """Everything that is assumed of torch's interface: names, arguments, who owns what, which constant is which."""
    library = compiled.artifact / "prefill-16x64.so"
    package = tmp_path / "graph.pt2"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("graph/archive_format", "pt2")
        archive.writestr("graph/data/aotinductor/model/graph.wrapper_metadata.json", '{"AOTI_DEVICE_KEY": "cpu"}')
        archive.write(library, "graph/data/aotinductor/model/graph.wrapper.so")
    weights = load_file(compiled.artifact / "weights.safetensors")
    loader = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, 1, -1)
    loader.load_constants({name: weights[name] for name in loader.get_constant_fqns()}, False, True, True)
    expected_inputs = [torch.from_numpy(array.copy()) for array in _inputs(compiled)]
    (expected,) = loader.run(expected_inputs)

    graph = Graph(library, {name: Tensor(tensor.numpy()) for name, tensor in weights.items()})
    inputs = [Tensor(array) for array in _inputs(compiled)]
    (logits,) = graph.run(inputs)

    np.testing.assert_array_equal(logits, expected.numpy())
    for tensor, changed, before in zip(inputs, expected_inputs, _inputs(compiled), strict=True):
        np.testing.assert_array_equal(tensor.array, changed.numpy())
        assert (tensor.array.ndim == 4) == (not np.array_equal(tensor.array, before))
    kept = logits.copy()
    graph.run(inputs)
    del graph
    np.testing.assert_array_equal(logits, kept)


def test_weights_that_do_not_fit_are_refused(compiled: _Compiled) -> None:
    library, weights = compiled.artifact / "decode-4x64.so", map_weights(compiled.artifact / "weights.safetensors")
    tensors = {name: Tensor(array) for name, array in weights.items()}
    with pytest.raises(RuntimeError, match="'norm' has 4 bytes"):
        Graph(library, {**tensors, "norm": Tensor(np.zeros(1, np.float32))})
    with pytest.raises(KeyError, match="norm"):
        Graph(library, {name: tensor for name, tensor in tensors.items() if name != "norm"})
    with pytest.raises(RuntimeError, match="takes 8 inputs, not 1"):
        Graph(library, tensors).run([tensors["norm"]])
    with pytest.raises(OSError, match=r"weights\.safetensors"):
        Graph(compiled.artifact / "weights.safetensors", tensors)


def test_other_threads_run_python_during_a_graph(compiled: _Compiled) -> None:
    weights = map_weights(compiled.artifact / "weights.safetensors")
    graph = Graph(compiled.artifact / "prefill-16x64.so", {name: Tensor(array) for name, array in weights.items()})
    inputs = [Tensor(array) for array in _inputs(compiled)]
    begun, ended = threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        for _ in range(1000):
            graph.run(inputs)
        ended.set()

    interval = sys.getswitchinterval()
    engine = threading.Thread(target=run)
    try:
        # A thread that wants the GIL gets it when it is let go of, and not because it has waited for a while.
        sys.setswitchinterval(600)
        engine.start()
        begun.wait()
        assert not ended.is_set()
    finally:
        sys.setswitchinterval(interval)
        engine.join()


def test_the_number_of_threads_holds_on_whichever_thread_runs(compiled: _Compiled) -> None:
    counted = list[int]()

    def run() -> None:
        compiled.session.prefill([PrefillRow(0, _prompt(_PREFILL), 0)])
        counted.append(ctypes.CDLL("libgomp.so.1").omp_get_max_threads())

    for _ in range(2):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert counted == [1, 1]


_SERVER = """
import json, sys
from pathlib import Path
import neuron_runtime.serve
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.engines import open_engine
from neuron_runtime.engines.base import PrefillRow
manifest = ArtifactManifest.model_validate_json(sys.argv[1])
engine = open_engine(manifest.request.engine)
engine.check(manifest)
session = engine.load(manifest, Path(sys.argv[2]), Path(sys.argv[3]), threads=1)
session.warm_up()
tokens = session.prefill([PrefillRow(0, json.loads(sys.argv[4]), 0)]).tokens.tolist()
maps = Path("/proc/self/maps").read_text()
mapped = [name for name in ("libtorch_cpu", "libtorch_cuda", "libtorch_python") if name in maps]
print(json.dumps([tokens, "torch" in sys.modules, mapped]))
"""


def test_a_serving_process_loads_neither_torch_nor_what_it_has_for_gpus(compiled: _Compiled) -> None:
    """Whichever build of torch is installed."""
    prompt = _prompt(5)
    arguments = [compiled.manifest.to_json(), str(compiled.artifact), str(compiled.source), json.dumps(prompt)]
    # Without the directory of a C++ compiler, and of anything else.
    process = subprocess.run(
        [sys.executable, "-c", _SERVER, *arguments], env={"PATH": "/nonexistent"}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    expected = reference_greedy(compiled.reference, prompt, 1)
    assert json.loads(process.stdout) == [expected, False, ["libtorch_cpu"]]


def test_graphs_are_loaded_before_the_weights_are_there(compiled: _Compiled, tmp_path: Path) -> None:
    """From a folder where the weights lie only once they were waited for."""
    graphs = [graph.path for graph in compiled.manifest.graphs]
    for path in graphs:
        shutil.copy(compiled.artifact / path, tmp_path)
    waited = list[str]()

    def wait(path: str) -> None:
        waited.append(path)
        if path == WEIGHTS:
            mapped = Path("/proc/self/maps").read_text("utf-8")
            assert all(str(tmp_path / graph) in mapped for graph in graphs)
            shutil.copy(compiled.artifact / path, tmp_path)

    session = CPUEngine().load(compiled.manifest, tmp_path, compiled.source, threads=1, wait=wait)
    assert isinstance(session, GenerationSession)
    assert sorted(waited) == sorted([*graphs, WEIGHTS])
    prompt = _prompt(5)
    assert greedy(session, 0, prompt, 3) == reference_greedy(compiled.reference, prompt, 3)


def test_weights_that_never_come_are_told_as_the_store_told_it(compiled: _Compiled) -> None:
    damaged = ContainerFailure(FailureCode.ARTIFACT_DAMAGED, "file weights.safetensors is damaged")

    def wait(path: str) -> None:
        if path == WEIGHTS:
            raise damaged

    with pytest.raises(ContainerFailure) as caught:
        CPUEngine().load(compiled.manifest, compiled.artifact, compiled.source, threads=1, wait=wait)
    assert caught.value is damaged


def test_an_artifact_of_another_toolchain_is_not_loaded(compiled: _Compiled) -> None:
    engine = CPUEngine()
    engine.check(compiled.manifest)
    toolchain = {**compiled.manifest.request.toolchain, "torch": "1.0.0"}
    other = compiled.manifest.model_copy(update={"request": cpu_request(TINY_SHAPES, toolchain=toolchain)})
    with pytest.raises(ContainerFailure, match=r"not 1\.0\.0") as caught:
        engine.check(other)
    assert caught.value.code is FailureCode.ARTIFACT_INCOMPATIBLE


@pytest.mark.parametrize(
    ("does", "code", "named"),
    [
        ("echo the disk is full >&2; exit 1", FailureCode.COMPILER_FAILED, "the disk is full"),
        ("kill -KILL $PPID", FailureCode.OUT_OF_MEMORY, f"({_GRAPHS[0]}|{_GRAPHS[1]}) was killed"),
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
    request = cpu_request(TINY_SHAPES)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(ContainerFailure, match=named) as caught:
        compile_model(source, tmp_path, request)
    assert caught.value.code is code
