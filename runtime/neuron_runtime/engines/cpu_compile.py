"""Compiles one part of an artifact in a process of its own: `python -m neuron_runtime.engines.cpu_compile`.

The job is JSON on standard input. Memory that the compiler took is back with the process's end, and a process that the
kernel kills for its memory takes nothing else with it. A failure of ours is JSON on standard output.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from pydantic import BaseModel

from neuron_runtime.contract.artifact import Graph
from neuron_runtime.contract.outcome import ContainerFailure

from .cpu import read_config
from .cpu_toolchain import VECTOR_BITS
from .llama import Llama
from .llama_config import LlamaConfig, parse_llama_config
from .llama_weights import write_llama_weights

# How loops are split depends on the number of threads that the compiler is told of. It must not depend on the machine
# that compiles: equal requests give equal artifacts. How many threads run is decided when a graph is loaded.
_ASSUMED_THREADS = 4


class CompileJob(BaseModel):
    """One graph, or without a graph the weights."""

    graph: Graph | None
    source: Path
    output: Path
    context_length: int
    slots: int
    march: str


def run(job: CompileJob) -> None:
    """Raises ContainerFailure, or whatever the compiler raises."""
    config = parse_llama_config(read_config(job.source))
    if job.graph is None:
        write_llama_weights(config, job.context_length, job.source, job.output)
        return
    _compile(config, job, job.graph)


def _compile(config: LlamaConfig, job: CompileJob, graph: Graph) -> None:
    batch, tokens = graph.batch_size, graph.tokens
    shape = (job.slots, job.context_length + 1, config.key_value_heads, config.head_size)
    keys, values = ([torch.zeros(shape) for _ in range(config.layers)] for _ in range(2))
    arguments = (
        torch.zeros(batch, tokens, dtype=torch.int64),
        torch.arange(batch),
        torch.arange(tokens).repeat(batch, 1),
        torch.zeros(batch, dtype=torch.int64),
        keys,
        values,
    )
    with torch.no_grad():
        model = Llama(config, job.context_length, graph.context_length).eval()
        program = torch.export.export(model, arguments, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=f"{folder}/graph.pt2", inductor_configs=_configuration(job.march)
        )
        _take_library(Path(package), job.output)


def _configuration(march: str) -> dict[str, object]:
    return {
        # Every graph takes the same weights; in the library each would hold a copy.
        "aot_inductor.package_constants_in_so": False,
        # Whoever loads a graph has loaded libtorch_cpu. Linked, a graph would bring libtorch, and with that what torch
        # was built with for a GPU.
        "aot_inductor.link_libtorch": False,
        "cpp.dynamic_threads": True,
        "cpp.march": march,
        "cpp.threads": _ASSUMED_THREADS,
        "cpp.simdlen": VECTOR_BITS[march],
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
