"""Whether a live object differs from what is wanted of it, leaf by leaf.

Only leaves of the wanted manifest count: defaults that the API server filled in and fields that others own are not
differences, but for what the API server takes as a whole. So a steady state needs no write, and a hand-made change to
a field of ours is seen.
"""

import re
from decimal import Decimal
from typing import Any

# Keys by which the API server merges lists of objects (`x-kubernetes-list-map-keys`), most specific first. Others may
# add items of their own to such lists (a sidecar, a port); these are not ours to remove.
_MERGE_KEYS = ("mountPath", "containerPort", "uid", "name", "port")
# Others can add nothing to these: the API server takes them as a whole.
_WHOLE = "selector"
_QUANTITIES = frozenset({"limits", "requests"})
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]?|[KMGTPE]i)")
_DECIMAL_SUFFIXES = {suffix: Decimal(1000) ** power for power, suffix in enumerate("num", start=-3)}
_DECIMAL_SUFFIXES |= {suffix: Decimal(1000) ** power for power, suffix in enumerate(("", *"kMGTPE"))}
_SUFFIXES = _DECIMAL_SUFFIXES | {f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}


def differs(desired: Any, live: Any) -> bool:
    """True when some leaf of `desired` is missing in `live` or has another value."""
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            return bool(desired)
        return any(_values_differ(key, value, live.get(key)) for key, value in desired.items())
    if isinstance(desired, list):
        return _lists_differ(desired, live)
    return bool(desired != live)


def _values_differ(key: str, desired: Any, live: Any) -> bool:
    if key == _WHOLE:
        return bool(desired != live)
    return _amounts_differ(desired, live) if key in _QUANTITIES else differs(desired, live)


def _lists_differ(desired: list[Any], live: Any) -> bool:
    if not isinstance(live, list):
        return bool(desired)
    merge_key = _merge_key(desired)
    if merge_key is None:
        return len(desired) != len(live) or any(differs(*pair) for pair in zip(desired, live, strict=True))
    by_key = {item.get(merge_key): item for item in live if isinstance(item, dict)}
    return any(differs(item, by_key.get(item[merge_key])) for item in desired)


def _merge_key(items: list[Any]) -> str | None:
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    return next((key for key in _MERGE_KEYS if all(key in item for item in items)), None)


def _amounts_differ(desired: dict[str, str], live: Any) -> bool:
    """The API server rewrites quantities (`1024Mi` to `1Gi`): equal amounts are equal."""
    if not isinstance(live, dict):
        return bool(desired)
    return any(key not in live or _amount(value) != _amount(live[key]) for key, value in desired.items())


def _amount(value: str) -> Decimal | str:
    match = _QUANTITY.fullmatch(str(value))
    return Decimal(match[1]) * _SUFFIXES[match[2]] if match is not None else value
