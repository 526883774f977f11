"""C++ of our own that graphs call: compiled once for each graph, and linked into it."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch._ops import OpOverload

from .cpu_toolchain import compiler_command

_OPTIONS = ("-O3", "-std=c++17", "-fPIC", "-fopenmp")


@dataclass(frozen=True)
class Kernel:
    """What a compiled graph runs where its program has an operator."""

    operator: OpOverload
    declaration: str
    """Of the C function, named as AOTInductor calls it: `aoti_torch_cpu_` and the operator's name."""
    source: str
    """C++ file of this package that has the function."""


def build_kernels(kernels: Sequence[Kernel], folder: Path, march: str) -> dict[str, object]:
    """Compile kernels into a folder that is on LIBRARY_PATH; what Inductor has to know of them.

    Raises RuntimeError with what the compiler said.
    """
    shims = {kernel.operator: [kernel.declaration] for kernel in kernels}
    sources = sorted({kernel.source for kernel in kernels})
    for source in sources:
        _compile(Path(__file__).with_name(source), folder / f"{source}.o", march)
    return {
        "aot_inductor.custom_ops_to_c_shims": shims,
        "aot_inductor.custom_op_libs": [f":{source}.o" for source in sources],
    }


def _compile(source: Path, library: Path, march: str) -> None:
    command = [compiler_command(), *_OPTIONS, f"-march={march}", "-c", str(source), "-o", str(library)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{source.name} does not compile: {result.stderr.strip()}")
