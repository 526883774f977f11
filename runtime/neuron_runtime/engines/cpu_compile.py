"""Compiles one part of an artifact in a process of its own: `python -m neuron_runtime.engines.cpu_compile`.

The job is JSON on standard input. Memory that the compiler took is back with the process's end, and a process that the
kernel kills for its memory takes nothing else with it. A failure of ours is JSON on standard output.
"""

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch._inductor.runtime.cache_dir_utils import cache_dir

from neuron_runtime.contract.artifact import Graph
from neuron_runtime.contract.outcome import ContainerFailure
from neuron_runtime.contract.request import Quantization, Task

from .base import Config
from .bert import Bert
from .bert_config import parse_bert_config, read_vector_settings
from .bert_weights import write_bert_weights
from .cpu_toolchain import VECTOR_BITS
from .graph_kernels import build_kernels
from .llama import Llama
from .llama_config import LlamaConfig, parse_llama_config
from .llama_weights import write_llama_weights
from .model_config import read_config
from .packed_int8 import PACKED_INT8_LINEAR
from .packed_linear import PACKED_LINEAR
from .slot_attention import SLOT_ATTENTION

# How loops are split depends on the number of threads that the compiler is told of. It must not depend on the machine
# that compiles: equal requests give equal artifacts. How many threads run is decided when a graph is loaded.
_ASSUMED_THREADS = 4

_KERNELS = (PACKED_LINEAR, PACKED_INT8_LINEAR, SLOT_ATTENTION)


class CompileJob(BaseModel):
    """One graph, or without a graph the weights."""

    task: Task
    quantization: Quantization
    graph: Graph | None
    source: Path
    output: Path
    context_length: int
    slots: int
    march: str


def run(job: CompileJob) -> None:
    """Raises ContainerFailure, or whatever the compiler raises."""
    run_task = _encoder if job.task is Task.EMBEDDING else _generator
    run_task(job, read_config(job.source))


def _encoder(job: CompileJob, document: Config) -> None:
    config, vectors, graph = parse_bert_config(document), read_vector_settings(job.source), job.graph
    if graph is None:
        write_bert_weights(config, vectors, job.source, job.output)
        return
    tokens = torch.zeros(graph.batch_size, graph.tokens, dtype=torch.int64)
    lengths = torch.ones(graph.batch_size, dtype=torch.int64)
    _compile(Bert(config, vectors), (tokens, lengths), job)


def _generator(job: CompileJob, document: Config) -> None:
    config, graph = parse_llama_config(document), job.graph
    if graph is None:
        write_llama_weights(config, job.context_length, job.quantization, job.source, job.output)
        return
    model = Llama(config, job.context_length, job.quantization)
    _compile(model, _generator_arguments(config, job, graph), job)


def _generator_arguments(config: LlamaConfig, job: CompileJob, graph: Graph) -> tuple[Any, ...]:
    rows = graph.batch_size * graph.tokens
    shape = (job.slots, job.context_length + 1, config.key_value_heads, config.head_size)
    keys, values = ([torch.zeros(shape) for _ in range(config.layers)] for _ in range(2))
    return (
        torch.zeros(rows, dtype=torch.int64),
        torch.zeros(rows, dtype=torch.int64),
        torch.arange(rows),
        torch.zeros(graph.batch_size, dtype=torch.int64),
        keys,
        values,
    )


def _compile(model: torch.nn.Module, arguments: tuple[Any, ...], job: CompileJob) -> None:
    with torch.no_grad():
        program = torch.export.export(model.eval(), arguments, strict=False)
    # Which all processes of a Job share.
    kernels = Path(cache_dir(), "kernels")
    configuration = _configuration(job.march) | build_kernels(_KERNELS, kernels, job.march)
    # Where the linker looks for them.
    os.environ["LIBRARY_PATH"] = os.pathsep.join(filter(None, (str(kernels), os.environ.get("LIBRARY_PATH"))))
    with tempfile.TemporaryDirectory() as folder:
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=f"{folder}/graph.pt2", inductor_configs=configuration
        )
        _take_library(Path(package), job.output)


def _configuration(march: str) -> dict[str, object]:
    return {
        # Every graph takes the same weights; in the library each would hold a copy.
        "aot_inductor.package_constants_in_so": False,
        # Whoever loads a graph has loaded libtorch_cpu. Linked, a graph would bring libtorch, and with that what torch
        # was built with for a GPU.
        "aot_inductor.link_libtorch": False,
        # Precompiled headers cost what they save in six graphs, and the first graphs wait for them one after the other.
        "aot_inductor.precompile_headers": False,
        # Two thirds of a library, for backtraces that nobody sees.
        "aot_inductor.enable_line_tables": False,
        "cpp.dynamic_threads": True,
        "cpp.march": march,
        "cpp.threads": _ASSUMED_THREADS,
        "cpp.simdlen": VECTOR_BITS[march],
        # Known from the CPU's flags (see `cpu_toolchain`); Inductor would compile and run a program for each.
        "cpp.vec_isa_ok": True,
    }


def _take_library(package: Path, output: Path) -> None:
    """The machine code alone: a package holds its C++ as well."""
    with zipfile.ZipFile(package) as archive:
        (library,) = (name for name in archive.namelist() if name.endswith(".so"))
        output.write_bytes(archive.read(library))


def main() -> int:
    """Returns the exit code."""
    job = CompileJob.model_validate_json(sys.stdin.read())
    try:
        run(job)
    except ContainerFailure as failure:
        sys.stdout.write(json.dumps({"code": failure.code.value, "message": failure.message}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
