"""What the CPU engine's machine code depends on: torch, the C++ compiler, the instruction set. Imports no torch."""

import importlib.metadata
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Instruction sets that code is generated for: the vector width in bits that torch may use, and the CPU flags by which
# a machine shows that it has them (glibc's definition of the levels, as /proc/cpuinfo names the flags).
VECTOR_BITS = {"x86-64-v3": 256, "x86-64-v4": 512}
_V3_FLAGS = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_FLAGS = {
    "x86-64-v3": _V3_FLAGS,
    "x86-64-v4": _V3_FLAGS | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}


ABSENT = "none"
"""The version of what is not installed."""

GRAPHS = "3"
"""Version of what graphs and their caller agree on: arguments, layout of caches and weights, packaging, how loops are
split over threads. It rises with each change of these, so that artifacts of before keep digests of their own."""


def torch_version() -> str:
    """The installed torch without its build suffix: `+cpu` and `+cu130` generate the same code for a CPU."""
    try:
        return importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ABSENT


def compiler_version() -> str:
    """The C++ compiler that torch will call, as toolchains name it: `g++-12`; `none` where there is no such thing."""
    command = compiler_command()
    try:
        result = subprocess.run([command, "-dumpversion"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ABSENT
    name = "clang++" if "clang" in Path(command).name else "g++"
    return f"{name}-{result.stdout.strip().partition('.')[0]}"


def compile_mismatches(wanted: Mapping[str, str]) -> list[str]:
    """Entries of a request's toolchain that this container cannot provide, one phrase each."""
    here = {"torch": torch_version(), "cxx": compiler_version(), "graphs": GRAPHS}
    found = [f"{name} {here[name]}, not {wanted.get(name)}" for name in here if here[name] != wanted.get(name)]
    if here["cxx"] == ABSENT:
        found.append(f"no C++ compiler that runs as {compiler_command()}")
    # torch generates scalar code for vectors that its own machine does not have, and says nothing.
    found += _cpu_mismatches(wanted.get("march"))
    unknown = sorted(wanted.keys() - here.keys() - {"march"})
    return found + [f"nothing called {name}" for name in unknown]


def load_mismatches(built_with: Mapping[str, str]) -> list[str]:
    """Why machine code of that toolchain cannot run here, one phrase each. A compiler is not needed."""
    here = {"torch": torch_version(), "graphs": GRAPHS}
    found = [f"{name} {here[name]}, not {built_with.get(name)}" for name in here if here[name] != built_with.get(name)]
    return found + _cpu_mismatches(built_with.get("march"))


def _cpu_mismatches(march: str | None) -> list[str]:
    if march not in _FLAGS:
        return [f"no march {march}; {', '.join(_FLAGS)} are known"]
    missing = sorted(_FLAGS[march] - _cpu_flags())
    return [f"a CPU without {', '.join(missing)}, which {march} needs"] if missing else []


def compiler_command() -> str:
    """What torch calls to compile C++."""
    return os.environ.get("CXX", "g++")


def _cpu_flags() -> frozenset[str]:
    match = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()
