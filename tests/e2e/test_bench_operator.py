"""The operator's benchmark from its command line, whole, on a few models: all that it measures is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]

_BENCH = Path(__file__).parents[2] / "bench" / "operator"


def test_a_run_measures_the_operator_and_the_handlers_in_kopfs_style() -> None:
    environment = {**os.environ, "PYTHONPATH": str(_BENCH)}
    command = [sys.executable, "-m", "control_loop", "--models", "10"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=800)
    assert result.returncode == 0, result.stderr
    assert "writes per model, compiled" in result.stderr
    run = json.loads(result.stdout)["contestants"]
    assert set(run) == {"neuron-operator", "kopf handlers"}
    for figures in run.values():
        assert figures["models_per_second"] > 0
        assert figures["resident"] > figures["resident_at_start"] > 0
        assert figures["reaction"]["all"]["p50"] > 0
    ours = run["neuron-operator"]
    assert sum(ours["writes_on_miss"].values()) <= 9
    assert sum(ours["writes_on_hit"].values()) <= 7
    assert ours["restart_writes"] == 0
