"""Compiles one part of an artifact in a process of its own: `python -m neuron_runtime.engines.cpu_compile`.

The job is JSON on standard input. Memory that the compiler took is back with the process's end, and a process that the
kernel kills for its memory takes nothing else with it. A failure of ours is JSON on standard output.
"""

import json
import sys
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
        program = torch.export.export(Llama(config, job.context_length).eval(), arguments, strict=False)
    torch._inductor.aoti_compile_and_package(
        program,
        package_path=str(job.output),
        inductor_configs={
            # Every graph takes the same weights; in the library each would hold a copy.
            "aot_inductor.package_constants_in_so": False,
            "cpp.dynamic_threads": True,
            "cpp.march": job.march,
            "cpp.threads": _ASSUMED_THREADS,
            "cpp.simdlen": VECTOR_BITS[job.march],
        },
    )


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
