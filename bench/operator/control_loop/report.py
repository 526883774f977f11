"""The figures as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

from control_loop.measure import Figures

_MIB = 1024 * 1024


def table(found: Mapping[str, Figures]) -> str:
    """One column for each contestant."""
    rows = [["", *found]]
    columns = [_column(figures) for figures in found.values()]
    rows += [[name, *(column[name] for column in columns)] for name in columns[0]]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _column(figures: Figures) -> dict[str, str]:
    reaction = figures.reaction.get("all", {})
    return {
        "models/s, compiled": f"{figures.models_per_second:.1f}",
        "models/s, artifact known": f"{figures.hits_per_second:.1f}",
        "processor per compiled model, ms: itself": f"{figures.processor_milliseconds.get('operator', 0):.0f}",
        "API server and etcd": f"{_server(figures):.0f}",
        "writes per model, compiled": f"{sum(figures.writes_on_miss.values()):.2f}",
        "writes per model, artifact known": f"{sum(figures.writes_on_hit.values()):.2f}",
        "reaction p50, ms": _milliseconds(reaction.get("p50")),
        "reaction p99, ms": _milliseconds(reaction.get("p99")),
        "resident at start, MiB": f"{figures.resident_at_start / _MIB:.1f}",
        "resident per model, KiB": f"{figures.resident_per_model / 1024:.1f}",
        "restart until quiet, s": f"{figures.restart_seconds:.2f}",
        "writes of a restart": f"{figures.restart_writes}",
    }


def _server(figures: Figures) -> float:
    return sum(figures.processor_milliseconds.get(name, 0.0) for name in ("kube-apiserver", "etcd"))


def _milliseconds(seconds: float | None) -> str:
    """A dash where nothing was measured: real controllers have no delays that could be set."""
    return "-" if seconds is None else f"{1000 * seconds:.0f}"
