"""What a caller is told while something takes long: the stage, how far it is, and for how long it has been running."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

_REPORT_SECONDS = 10.0
_REPORT_FRACTION = 0.1


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


class LinePrinter:
    """Prints a line per finished stage, and of a running one a line per ten percent or ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: Step | None = None

    def __call__(self, step: Step) -> None:
        if not step.finished and not self._is_news(step):
            return
        self._last = step
        mark = "ok" if step.finished else ".."
        percent = f"{step.fraction:4.0%}" if step.fraction is not None and not step.finished else "    "
        self._stream.write(f"{mark} {step.stage:<26} {step.elapsed:6.1f} s {percent}  {step.detail}".rstrip() + "\n")
        self._stream.flush()

    def _is_news(self, step: Step) -> bool:
        last = self._last
        if last is None or last.stage != step.stage or step.elapsed - last.elapsed >= _REPORT_SECONDS:
            return True
        return (step.fraction or 0.0) - (last.fraction or 0.0) >= _REPORT_FRACTION
