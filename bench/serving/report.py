"""A run's figures for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from serving.figures import Figure, Measured, agreement
from serving.spread import three_digits


def table(figures: Sequence[Figure]) -> str:
    """One line for each figure: median, minimum, maximum, and whether the median keeps to its target."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'':{width}}  {'median':>9} {'min':>9} {'max':>9}"]
    for figure in figures:
        value = figure.value
        numbers = " ".join(f"{three_digits(number):>9}" for number in (value.median, value.minimum, value.maximum))
        verdict = {None: "", True: f"  {figure.target}: met", False: f"  {figure.target}: missed"}[figure.met]
        lines.append(f"{figure.name:{width}}  {numbers} {figure.unit:8}{verdict}".rstrip())
    return "\n".join(lines)


def document(measured: Measured, figures: Sequence[Figure], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for JSON: the summary and what it was made of."""
    return {
        "machine": dict(machine),
        "settings": dict(measured.settings),
        "versions": {name: dict(versions) for name, versions in measured.versions.items()},
        "weight_bytes": measured.weight_bytes,
        "step_bytes": measured.step_bytes,
        "agreement": agreement(measured.rounds),
        "summary": [{**asdict(figure), "met": figure.met} for figure in figures],
        "starts": [asdict(start) for start in measured.starts],
        "rounds": [_without_answers(asdict(round_)) for round_ in measured.rounds],
    }


def _without_answers(round_: dict[str, Any]) -> dict[str, Any]:
    for batches in round_["raw"].values():
        for figures in batches.values():
            del figures["answers"]
    return round_
