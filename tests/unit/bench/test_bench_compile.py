"""The benchmark of compilations tells stages apart by what the compiler is given."""

from __future__ import annotations

import pytest

from compile.compiler import stage


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-dumpversion"], "probes"),
        (["/cache/ab/probe.cpp", "-O3", "-o", "/cache/ab/probe.so"], "probes"),
        (["/cache/header.hpp", "-E", "-o", "/cache/header.i"], "headers"),
        (["/cache/x.h", "-o", "/cache/x.h.gch"], "headers"),
        (["/cache/c.wrapper.cpp", "-include", "/cache/x.h", "-c", "-o", "/cache/c.wrapper.o"], "wrapper"),
        (["/cache/c.kernel.cpp", "-c", "-o", "/cache/c.kernel.o"], "kernels"),
        (["-c", "/lib/neuron_runtime/engines/packed_linear.cpp", "-o", "/cache/packed_linear.o"], "own kernels"),
        (["/cache/weights.S", "-c", "-o", "/cache/weights.o"], "link"),
        (["/cache/c.wrapper.o", "/cache/c.kernel.o", "-shared", "-o", "/cache/c.so"], "link"),
    ],
)
def test_stages(arguments: list[str], expected: str) -> None:
    assert stage(arguments) == expected
