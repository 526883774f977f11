#!/usr/bin/env python3
"""Stands before the C++ compiler under its own name: runs it, and writes down what that took."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compile.times import COMPILER_VARIABLE, Time, children_seconds, note

_LINKED = (".o", ".S")


def stage(arguments: list[str]) -> str:
    """What the compiler is asked for, by what it is given."""
    sources = [argument for argument in arguments if argument.endswith((".cpp", ".h", ".hpp", *_LINKED))]
    # The object that is made has the end of a source, too.
    made = arguments[arguments.index("-o") + 1] if "-o" in arguments else ""
    sources = [source for source in sources if source != made]
    if not sources:
        return "probes"
    first = sources[0]
    if first.endswith(_LINKED):
        return "link"
    if first.endswith((".h", ".hpp")):
        return "headers"
    if first.endswith(".wrapper.cpp"):
        return "wrapper"
    if first.endswith(".kernel.cpp"):
        return "kernels"
    return "own kernels" if "neuron_runtime" in first else "probes"


def main() -> int:
    """Returns the compiler's exit code."""
    begun = perf_counter()
    code = subprocess.run([os.environ[COMPILER_VARIABLE], *sys.argv[1:]]).returncode
    note(Time(stage(sys.argv[1:]), children_seconds(), perf_counter() - begun))
    return code


if __name__ == "__main__":
    sys.exit(main())
