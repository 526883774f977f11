"""C++ of our own that graphs call: compiled once for all graphs of a Job, and linked into each."""

import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
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
    """Compile kernels into a folder that is on LIBRARY_PATH, unless another graph's process has done so; what Inductor
    has to know of them.

    Raises RuntimeError with what the compiler said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shims = {kernel.operator: [kernel.declaration] for kernel in kernels}
    sources = sorted({kernel.source for kernel in kernels})
    libraries = [_compiled(Path(__file__).with_name(source), folder, march) for source in sources]
    return {
        "aot_inductor.custom_ops_to_c_shims": shims,
        "aot_inductor.custom_op_libs": [f":{library}" for library in libraries],
    }


def _compiled(source: Path, folder: Path, march: str) -> str:
    """The name of the object that a source is compiled to; it stands for all that it is made from."""
    command = [compiler_command(), *_OPTIONS, f"-march={march}", "-c"]
    content = "\0".join([*command, torch.__version__, source.read_text("utf-8")])
    name = f"{source.stem}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.o"
    if (folder / name).exists():
        return name
    # Processes that compile the same at the same time must not see each other's half.
    with tempfile.TemporaryDirectory(dir=folder) as staged:
        made = Path(staged, name)
        # Torch's C interface is declared there; a graph finds it where it finds all else of torch.
        headers = Path(torch.__file__).with_name("include")
        result = subprocess.run(
            [*command, f"-I{headers}", str(source), "-o", str(made)], capture_output=True, text=True
        )
        if result.returncode != 0:
            raise RuntimeError(f"{source.name} does not compile: {result.stderr.strip()}")
        made.replace(folder / name)
    return name
