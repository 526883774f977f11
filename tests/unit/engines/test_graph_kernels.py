"""C++ that graphs call is compiled once, however many graphs are."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_runtime.engines.graph_kernels import build_kernels
from neuron_runtime.engines.slot_attention import SLOT_ATTENTION

_MARCH = "x86-64-v3"


def test_kernels_are_compiled_once_for_all_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_kernels([SLOT_ATTENTION], tmp_path, _MARCH)
    made = sorted(tmp_path.iterdir())
    assert [f":{file.name}" for file in made] == first["aot_inductor.custom_op_libs"]
    monkeypatch.setenv("PATH", "/nonexistent")
    assert build_kernels([SLOT_ATTENTION], tmp_path, _MARCH) == first


def test_kernels_for_another_instruction_set_are_others(tmp_path: Path) -> None:
    names = [
        build_kernels([SLOT_ATTENTION], tmp_path, march)["aot_inductor.custom_op_libs"]
        for march in (_MARCH, "x86-64-v4")
    ]
    assert names[0] != names[1]


def test_what_does_not_compile_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"slot_attention\.cpp does not compile"):
        build_kernels([SLOT_ATTENTION], tmp_path, "no-such-cpu")
    assert list(tmp_path.iterdir()) == []
