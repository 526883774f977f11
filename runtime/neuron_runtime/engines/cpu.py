"""The CPU engine: PyTorch compiled ahead of time, for machines without Neuron devices.

Same buckets and same artifact contract as on Neuron: a list of graphs without weights, and one file of weights in the
form that the graphs read, shared by all of them.
"""

import importlib.metadata
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from neuron_runtime.contract.artifact import ArtifactManifest, Graph
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import CompileRequest

from .base import Compiled, Config, Report, Session
from .llama_config import LlamaConfig, read_config

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"

_FIXED_SECONDS = 20.0
_SECONDS_PER_LAYER = 2.0
_MARCHES = ("x86-64-v3", "x86-64-v4")
_CPU_FLAGS = {
    "x86-64-v3": frozenset({"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"}),
    "x86-64-v4": frozenset({"avx2", "fma", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
}


class CPUEngine:
    """Compiles with torch.export and AOTInductor, and runs what came of it."""

    def toolchain(self) -> dict[str, str]:
        """torch's version and the C++ compiler with its major version; `march` is chosen, not found."""
        return {"torch": _torch_version(), "cxx": _compiler()}

    def describe(self, request: CompileRequest, config: Config) -> tuple[Graph, ...]:
        """One prefill graph for each context length, one decode graph for each batch. Refuses other architectures."""
        read_config(config)
        length = request.shapes.max_model_length
        prefills = [_graph("prefill", 1, tokens, length) for tokens in request.shapes.context_lengths]
        decodes = [_graph("decode", batch, 1, length) for batch in request.shapes.token_generation_batches]
        return (*prefills, *decodes)

    def compile(
        self, request: CompileRequest, source: Path, output: Path, *, threads: int, workers: int, report: Report
    ) -> Compiled:
        """Write the weights, then the graphs."""
        self._check_toolchain(request)
        document: dict[str, Any] = json.loads((source / CONFIG).read_text())
        graphs = self.describe(request, document)
        config = read_config(document)
        output.mkdir(parents=True, exist_ok=True)
        work = output.parent / "compile"
        work.mkdir(exist_ok=True)
        started = time.monotonic()
        _write_weights(config, source, output / WEIGHTS)
        timings = {"weights": time.monotonic() - started}
        tasks = {
            graph.name: {
                "config": document,
                "march": request.toolchain["march"],
                "threads": threads,
                "slots": request.shapes.max_batch_size,
                "length": graph.context_length,
                "batch": graph.batch_size,
                "tokens": graph.tokens,
                "output": str(output / graph.path),
            }
            for graph in graphs
        }
        # Not at the module's head: servers read this module, and never compile.
        from .cpu_workers import Workers

        expected = _FIXED_SECONDS + _SECONDS_PER_LAYER * config.layers
        timings |= Workers(work, limit=workers, expected_seconds=expected).run(tasks, report)
        return Compiled(graphs=graphs, tools=self.toolchain(), timings=timings)

    def check(self, manifest: ArtifactManifest) -> None:
        """The artifact needs this torch, and a CPU with its instruction set."""
        wanted = manifest.request.toolchain
        if wanted.get("torch") != _torch_version():
            raise ContainerFailure(
                FailureCode.ARTIFACT_INCOMPATIBLE,
                f"the artifact was compiled for torch {wanted.get('torch')}; this image has {_torch_version()}",
            )
        missing = _CPU_FLAGS.get(wanted.get("march", ""), frozenset()) - _cpu_flags()
        if missing:
            raise ContainerFailure(
                FailureCode.ARTIFACT_INCOMPATIBLE,
                f"the artifact needs a CPU of level {wanted['march']}; this one lacks {', '.join(sorted(missing))}",
            )

    def reads_source(self, path: str) -> bool:
        """Only the configuration: the artifact holds the weights."""
        return path == CONFIG

    def load(self, manifest: ArtifactManifest, artifact: Path, source: Path, threads: int) -> Session:
        """Map the weights, open the graphs."""
        from .cpu_session import CPUSession

        config = read_config(json.loads((source / CONFIG).read_text()))
        shapes = manifest.request.shapes
        return CPUSession(config, shapes, manifest.graphs, artifact, artifact / WEIGHTS, threads)

    def _check_toolchain(self, request: CompileRequest) -> None:
        found = self.toolchain()
        differing = [
            f"{name} is {found[name]}, not {request.toolchain.get(name)}"
            for name in found
            if request.toolchain.get(name) != found[name]
        ]
        if request.toolchain.get("march") not in _MARCHES:
            differing.append(f"march is {request.toolchain.get('march')}, not one of {', '.join(_MARCHES)}")
        if differing:
            message = f"this image cannot make what was asked for: {'; '.join(differing)}"
            raise ContainerFailure(FailureCode.TOOLCHAIN_MISMATCH, message)


def _graph(kind: Any, batch: int, tokens: int, length: int) -> Graph:
    name = f"{kind}-{tokens if kind == 'prefill' else batch}"
    return Graph(
        name=name, kind=kind, batch_size=batch, tokens=tokens, context_length=length, path=f"graphs/{name}.pt2"
    )


def _write_weights(config: LlamaConfig, source: Path, path: Path) -> None:
    from safetensors.torch import save_file

    from .llama import transformed_weights

    try:
        weights = transformed_weights(config, source)
    except KeyError as error:
        raise ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"the weights hold no tensor named {error}") from error
    path.parent.joinpath("graphs").mkdir(exist_ok=True)
    save_file(weights, path)


def _torch_version() -> str:
    """Without the build's suffix: `2.13.0+cpu` and `2.13.0` generate the same code for the CPU."""
    return importlib.metadata.version("torch").partition("+")[0]


def _compiler() -> str:
    try:
        answer = subprocess.run(["g++", "-dumpversion"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return f"g++-{answer.stdout.strip().partition('.')[0]}"


def _cpu_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()
