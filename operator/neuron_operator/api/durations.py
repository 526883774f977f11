"""Durations as manifests write them: hours, minutes and seconds, such as `1h30m`."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

DURATION_PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"
DURATION_LIMIT_HOURS = 168

_DURATION_PARTS = re.compile(r"([0-9]+)([hms])")
_SECONDS = {"h": 3600, "m": 60, "s": 1}


def duration_seconds(text: str) -> int:
    """Seconds of a duration such as `1h30m`."""
    return sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PARTS.findall(text))


def _within_limit(text: str) -> str:
    if not 0 < duration_seconds(text) <= DURATION_LIMIT_HOURS * 3600:
        raise ValueError(f"must be longer than 0s and at most {DURATION_LIMIT_HOURS}h, for example 30m")
    return text


Duration = Annotated[str, Field(min_length=2, max_length=16, pattern=DURATION_PATTERN), AfterValidator(_within_limit)]
