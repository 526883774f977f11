"""What a caller is told while something takes long: the stage, how far it is, and for how long it has been running."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One line of progress. `fraction` is 0 to 1, or None where nobody can tell; `elapsed` is in seconds."""

    stage: str
    detail: str = ""
    fraction: float | None = None
    elapsed: float = 0.0
    finished: bool = False


Progress = Callable[[Step], None]


def silent(step: Step) -> None:
    """The progress callback of a caller who does not want to know."""


class StageClock:
    """Reports the steps of one stage with the time since it began."""

    def __init__(self, stage: str, progress: Progress) -> None:
        self._stage = stage
        self._progress = progress
        self._began = time.monotonic()

    def update(self, detail: str = "", fraction: float | None = None) -> None:
        self._progress(Step(self._stage, detail, fraction, self.elapsed))

    def finish(self, detail: str = "") -> None:
        self._progress(Step(self._stage, detail, 1.0, self.elapsed, finished=True))

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began
