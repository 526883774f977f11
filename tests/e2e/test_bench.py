"""The benchmarks from their command lines, whole, on the two-layer model: all that they measure is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

_BENCH = Path(__file__).parents[2] / "bench"


def test_a_run_measures_every_contestant_and_load(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(_BENCH), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "serving", "--model", "tiny", "--out", str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1400)
    assert result.returncode == 0, result.stderr
    assert "decode B4 / transformers" in result.stdout
    run = json.loads((tmp_path / "serving-tiny.json").read_text())
    assert run["agreement"] == dict.fromkeys(run["versions"], 1.0)
    assert {"graphs", "transformers"} <= set(run["versions"])
    for measured in run["rounds"]:
        assert measured["bytes_per_second"] > 0
        for load in ("alone", "full", "twice", "arrivals"):
            figures = measured["loads"]["ours"][load]
            assert figures["errors"] == []
            assert figures["tokens_per_second"] > 0
            assert 0 < figures["first_p50"] <= figures["first_p99"]
    assert all(start["seconds"] > 0 for start in run["starts"])
    assert (tmp_path / "serving-tiny.svg").read_text().endswith("</svg>\n")


def test_a_run_compares_int8_weights_with_float32(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(_BENCH), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "quantization", "--model", "tiny", "--rounds", "2", "--out", str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1400)
    assert result.returncode == 0, result.stderr
    assert "decode B4: float32 / int8" in result.stdout
    run = json.loads((tmp_path / "quantization-tiny.json").read_text())
    assert run["weightFileBytes"]["int8"] < run["weightFileBytes"]["float32"] / 2
    assert run["text"]["judged"] == 8 * 31
    assert run["perplexity"]["int8"] == pytest.approx(run["perplexity"]["float32"], rel=0.05)
    assert run["sameFavorite"] > 0.8
    assert all(0 < of["minimum"] <= of["maximum"] for both in run["seconds"].values() for of in both.values())
