"""The CPU engine: torch.export and AOTInductor ahead of time, machine code and shared weights when serving.

Stands in for Neuron devices where there are none, with the same buckets, caches and artifacts. Imports no torch: only
the processes that compile do.
"""

import json
import os
from pathlib import Path

from neuron_runtime.contract.artifact import ArtifactManifest, Graph
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import CompileRequest, Quantization, Task

from .base import Compiled, Config, Report, Session, Wait, there_already
from .bert_config import BertConfig, parse_bert_config
from .cpu_jobs import Job, JobRunner
from .cpu_toolchain import GRAPHS, compile_mismatches, compiler_version, load_mismatches, torch_version
from .llama_config import LlamaConfig, parse_llama_config
from .model_config import CONFIG, read_config
from .weight_file import WEIGHTS

_COMPILER = "neuron_runtime.engines.cpu_compile"
# Measured on one core of a virtual machine; only a first guess for the progress, which corrects itself.
_GRAPH_SECONDS = 25.0
_LAYER_SECONDS = 2.0
_WEIGHTS_SECONDS = 5.0
_WEIGHTS_SECONDS_PER_GIB = 10.0


class CPUEngine:
    """Compiles and loads Llamas and BERT encoders for x86-64 CPUs."""

    def toolchain(self) -> dict[str, str]:
        """torch, the C++ compiler with its major version, and our graphs; `march` is chosen, not found."""
        return {"torch": torch_version(), "cxx": compiler_version(), "graphs": GRAPHS}

    def describe(self, request: CompileRequest, config: Config) -> tuple[Graph, ...]:
        """Graphs for each length of a prefill step and each batch of decode; an encoder's, for each length and
        batch."""
        model, shapes = _parse(request, config), request.shapes
        if request.tensor_parallel_size != 1:
            raise _unsupported(f"tensor_parallel_size {request.tensor_parallel_size}: a CPU is not split")
        if request.flags:
            raise _unsupported(f"flags {' '.join(request.flags)}: this engine has none")
        if shapes.max_model_length > model.max_positions:
            raise _unsupported(
                f"max_model_length {shapes.max_model_length}: the model knows {model.max_positions} positions"
            )
        if request.task is Task.EMBEDDING:
            if request.quantization is not Quantization.NONE:
                raise _unsupported(f"quantization {request.quantization.value}: encoders are compiled without")
            batches = sorted({1, shapes.max_batch_size})
            return tuple(
                _graph("encode", batch, tokens, tokens) for batch in batches for tokens in shapes.context_lengths
            )
        prefill = (_graph("prefill", 1, tokens, shapes.max_model_length) for tokens in shapes.context_lengths)
        decode = (_graph("decode", batch, 1, shapes.max_model_length) for batch in shapes.token_generation_batches)
        return (*prefill, *decode)

    def compile(
        self, request: CompileRequest, source: Path, output: Path, *, threads: int, workers: int, report: Report
    ) -> Compiled:
        """Write a library for each graph and one file of weights. What is thrown away lies beside `output`."""
        mismatches = compile_mismatches(request.toolchain)
        if mismatches:
            raise ContainerFailure(FailureCode.TOOLCHAIN_MISMATCH, f"this image has {'; '.join(mismatches)}")
        document = read_config(source)
        graphs = self.describe(request, document)
        work = output.parent / "compile"
        for folder in (output, work / "cache", work / "tmp", work / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        jobs = _jobs(request, graphs, _parse(request, document).layers, source, output)
        environment = {
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": str(work / "cache"),
            "TMPDIR": str(work / "tmp"),
            "OMP_NUM_THREADS": str(threads),
            # Of processes that compile in parallel: each would import torch, for the one C++ file that a graph is.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        timings = JobRunner(_COMPILER).run(jobs, workers, environment, work / "logs", report)
        return Compiled(graphs=graphs, tools=self.toolchain(), timings=timings)

    def check(self, manifest: ArtifactManifest) -> None:
        """Refuse machine code that this container or its CPU cannot run, and an artifact without weights."""
        if WEIGHTS not in {file.path for file in manifest.files}:
            raise ContainerFailure(
                FailureCode.ARTIFACT_DAMAGED, f"the manifest of the artifact {manifest.digest} names no {WEIGHTS}"
            )
        mismatches = load_mismatches(manifest.request.toolchain)
        if mismatches:
            raise ContainerFailure(
                FailureCode.ARTIFACT_INCOMPATIBLE,
                f"the artifact {manifest.digest} cannot run here: this container has {'; '.join(mismatches)}",
            )

    def reads_source(self, path: str) -> bool:
        """The model's numbers; the weights are in the artifact."""
        return path == CONFIG

    def load(
        self,
        manifest: ArtifactManifest,
        artifact: Path,
        source: Path,
        threads: int,
        wait: Wait = there_already,
    ) -> Session:
        """Load verified files, to run on so many CPU threads: graphs while the weights may still be on their way."""
        from .cpu_encoder_session import CPUEncoderSession
        from .cpu_graphs import load_graphs
        from .cpu_session import CPUSession

        config = _parse(manifest.request, read_config(source))
        try:
            graphs = load_graphs(manifest, artifact, wait)
            if isinstance(config, BertConfig):
                return CPUEncoderSession(manifest, graphs, config, threads)
            return CPUSession(manifest, graphs, config, threads)
        except (RuntimeError, OSError, KeyError, ValueError) as error:
            raise ContainerFailure(
                FailureCode.ARTIFACT_INCOMPATIBLE, f"the artifact {manifest.digest} does not load: {error}"
            ) from error


def _graph(kind: str, batch: int, tokens: int, context_length: int) -> Graph:
    name = f"{kind}-{tokens if kind == 'prefill' else batch}x{context_length}"
    return Graph.model_validate(
        {
            "name": name,
            "kind": kind,
            "batchSize": batch,
            "tokens": tokens,
            "contextLength": context_length,
            "path": f"{name}.so",
        }
    )


def _parse(request: CompileRequest, config: Config) -> BertConfig | LlamaConfig:
    return parse_bert_config(config) if request.task is Task.EMBEDDING else parse_llama_config(config)


def _jobs(request: CompileRequest, graphs: tuple[Graph, ...], layers: int, source: Path, output: Path) -> list[Job]:
    """One job for each graph, and one for the weights."""

    def job(graph: Graph | None, expected_seconds: float) -> Job:
        document = {
            "task": request.task.value,
            "quantization": request.quantization.value,
            "graph": None if graph is None else graph.to_document(),
            "source": str(source),
            "output": str(output / (WEIGHTS if graph is None else graph.path)),
            "context_length": request.shapes.max_model_length,
            "slots": request.shapes.max_batch_size,
            "march": request.toolchain["march"],
        }
        return Job("weights" if graph is None else graph.name, json.dumps(document), expected_seconds)

    size = sum(file.stat().st_size for file in source.glob("*.safetensors")) / 2**30
    compilations = [job(graph, _GRAPH_SECONDS + _LAYER_SECONDS * layers) for graph in graphs]
    return [*compilations, job(None, _WEIGHTS_SECONDS + _WEIGHTS_SECONDS_PER_GIB * size)]


def _unsupported(finding: str) -> ContainerFailure:
    return ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"this engine cannot compile {finding}")
