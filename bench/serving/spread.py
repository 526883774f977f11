"""Numbers that were measured several times. The median says how much; minimum and maximum say how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """One figure over all rounds of a run."""

    minimum: float
    median: float
    maximum: float
    rounds: int


def spread(values: Iterable[float]) -> Spread:
    """Raises ValueError without a value."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("nothing was measured")
    return Spread(ordered[0], statistics.median(ordered), ordered[-1], len(ordered))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of the values do not exceed. Raises ValueError without one."""
    if not values:
        raise ValueError("nothing was measured")
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(0, rank - 1)]


def three_digits(value: float) -> str:
    """A number with the digits that mean something at run-to-run differences of a percent or more."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
