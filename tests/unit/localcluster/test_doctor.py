"""What `make doctor` says of machines that lack something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPTS = Path(__file__).parents[3] / "scripts"


def report(scripts: Path = _SCRIPTS, **variables: str) -> tuple[str, int]:
    """The doctor's lines and exit code with these variables set."""
    environment = {**os.environ, "KUBEBUILDER_ASSETS": "", **variables}
    result = subprocess.run(
        [sys.executable, str(scripts / "doctor.py")], env=environment, capture_output=True, text=True, check=False
    )
    return result.stdout, result.returncode


def test_a_cache_that_cannot_hold_the_binaries_is_named_with_the_way_out() -> None:
    lines, code = report(XDG_CACHE_HOME="/proc")
    (line,) = (line for line in lines.splitlines() if "control-plane binaries" in line)
    assert line.startswith("MISSING")
    assert "/proc" in line
    assert "set XDG_CACHE_HOME" in line
    assert code == 1


@pytest.mark.parametrize("name", ["my clone", "it's", "a:b"])
def test_a_clone_in_which_nothing_can_be_compiled_is_refused(tmp_path: Path, name: str) -> None:
    scripts = tmp_path / name / "scripts"
    shutil.copytree(_SCRIPTS, scripts)

    lines, code = report(scripts)

    (line,) = (line for line in lines.splitlines() if " folder " in line)
    assert line.startswith("MISSING")
    assert "move the clone" in line
    assert code == 1
    result = subprocess.run(
        [sys.executable, str(scripts / "environment.py")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "move the clone" in result.stderr
