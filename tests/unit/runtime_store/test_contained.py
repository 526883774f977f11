"""Paths of manifests and sources cannot leave their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.store.files import contained

_FOLDER = Path("/work/source")
_PARTS = st.sampled_from(["..", ".", "a", "b.json", "", "/", "\\", "\0", " ", "~", "C:", "...", "é"])


@given(st.lists(_PARTS, max_size=6).map("/".join) | st.text(max_size=20))
def test_a_path_lies_below_its_folder_or_is_refused(path: str) -> None:
    try:
        found = contained(_FOLDER, path, FailureCode.SOURCE_UNSAFE)
    except ContainerFailure as failure:
        assert failure.code is FailureCode.SOURCE_UNSAFE
        assert "source names the file" in failure.message
        return
    assert found != _FOLDER and found.is_relative_to(_FOLDER)
    assert ".." not in found.parts


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "", ".", "..", "a\\..\\x", "a\0b"])
def test_what_leaves_a_folder(path: str) -> None:
    with pytest.raises(ContainerFailure):
        contained(_FOLDER, path)
