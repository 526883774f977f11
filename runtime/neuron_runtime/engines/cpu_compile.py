"""Compiles one graph: `python -m neuron_runtime.engines.cpu_compile TASK`, a process of its own.

Exports the step with torch.export and compiles it with AOTInductor into a package without weights. Says on standard
output, a line each, which part of the work begins; errors go to standard error.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch._inductor import aoti_compile_and_package

from .llama import Step, empty_caches
from .llama_config import read_config

EXPORTING = "exporting"
GENERATING = "generating"

# What the generated code may use goes with the architecture level, never with the machine that happens to compile.
_SIMD_BITS = {"x86-64-v3": 256, "x86-64-v4": 512}


def compile_graph(task: dict[str, Any]) -> None:
    """`task`: config, march, threads, slots, length, batch, tokens, output."""
    torch.set_num_threads(task["threads"])
    torch.set_grad_enabled(False)
    config = read_config(task["config"])
    _say(EXPORTING)
    step = Step(config, task["length"]).eval()
    batch, tokens = task["batch"], task["tokens"]
    inputs = (
        torch.zeros(batch, tokens, dtype=torch.int64),
        torch.arange(batch),
        torch.arange(tokens).expand(batch, tokens).contiguous(),
        torch.full((batch,), tokens - 1),
        *empty_caches(config, task["slots"], task["length"]),
    )
    program = torch.export.export(step, inputs, strict=False)
    _say(GENERATING)
    aoti_compile_and_package(
        program,
        package_path=task["output"],
        inductor_configs={
            "aot_inductor.package_constants_in_so": False,
            "cpp.march": task["march"],
            "cpp.simdlen": _SIMD_BITS[task["march"]],
            # A number of threads would be baked into the loops of the generated code.
            "cpp.threads": 1,
        },
    )


def _say(stage: str) -> None:
    sys.stdout.write(stage + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    compile_graph(json.loads(Path(sys.argv[1]).read_text()))
