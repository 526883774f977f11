"""The operator's benchmark from its command line, whole, on a few models: all that it measures is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]

_BENCH = Path(__file__).parents[2] / "bench" / "operator"


def test_a_run_with_the_real_controllers_gets_as_far() -> None:
    run, table = _run("--models", "5", "--mode", "real", "--alone")
    ours = run["neuron-operator"]
    assert ours["models_per_second"] > 0
    assert ours["restart_writes"] == 0
    assert next(line for line in table.splitlines() if line.startswith("reaction p50")).endswith(" -")


def test_a_run_measures_the_operator_and_the_handlers_in_kopfs_style() -> None:
    run, table = _run("--models", "10")
    assert "writes per model, compiled" in table
    assert set(run) == {"neuron-operator", "kopf handlers"}
    for figures in run.values():
        assert figures["models_per_second"] > 0
        assert figures["resident"] > figures["resident_at_start"] > 0
        assert figures["reaction"]["all"]["p50"] > 0
    ours = run["neuron-operator"]
    assert sum(ours["writes_on_miss"].values()) <= 9
    assert sum(ours["writes_on_hit"].values()) <= 7
    assert ours["restart_writes"] == 0


def _run(*arguments: str) -> tuple[dict[str, Any], str]:
    """The figures of each contestant, and the table."""
    environment = {**os.environ, "PYTHONPATH": str(_BENCH)}
    command = [sys.executable, "-m", "control_loop", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=800)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["contestants"], result.stderr
