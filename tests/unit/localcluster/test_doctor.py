"""What `make doctor` says of machines that lack something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_DOCTOR = Path(__file__).parents[3] / "scripts" / "doctor.py"


def report(**variables: str) -> tuple[str, int]:
    """The doctor's lines and exit code with these variables set."""
    environment = {**os.environ, "KUBEBUILDER_ASSETS": "", **variables}
    result = subprocess.run(
        [sys.executable, str(_DOCTOR)], env=environment, capture_output=True, text=True, check=False
    )
    return result.stdout, result.returncode


def test_a_cache_that_cannot_hold_the_binaries_is_named_with_the_way_out() -> None:
    lines, code = report(XDG_CACHE_HOME="/proc")
    (line,) = (line for line in lines.splitlines() if "control-plane binaries" in line)
    assert line.startswith("MISSING")
    assert "/proc" in line
    assert "set XDG_CACHE_HOME" in line
    assert code == 1
