"""Waiting for what other processes do, up to a deadline, with a failure that says how things stood."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_PAUSE_SECONDS = 0.2

Found = TypeVar("Found")


def wait_for(
    what: str, look: Callable[[], Found | None], *, seconds: float, describe: Callable[[], str] = lambda: ""
) -> Found:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s\n{describe()}")
        time.sleep(_PAUSE_SECONDS)
    return found
