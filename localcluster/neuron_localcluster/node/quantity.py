"""Kubernetes quantities as exact numbers."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_QUANTITY = re.compile(r"([+-]?[0-9.]+)((?:[eE][+-]?[0-9]+)|(?:[numkMGTPE]i?|Ki)?)")


def parse(quantity: str | int | float) -> Decimal:
    """The number in base units (cores, bytes, pieces); raises ValueError when the text is no quantity."""
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is not a Kubernetes quantity")
    number, suffix = match.groups()
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix != "Ei":
        return Decimal(number + suffix)
    if suffix not in _SUFFIXES:
        raise ValueError(f"{quantity!r} is not a Kubernetes quantity")
    return Decimal(number) * _SUFFIXES[suffix]


def divided(quantity: str | int | float, divisor: str | int | float) -> int:
    """How often the divisor fits, rounded up, as the downward API has it; a divisor of 0 means 1."""
    return int((parse(quantity) / (parse(divisor) or 1)).to_integral_value(ROUND_CEILING))
