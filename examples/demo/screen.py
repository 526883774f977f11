"""Shows stages, their progress and their time: redrawn in place on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

_TICK_SECONDS = 0.2
_NEWS_SECONDS = 15.0
_NEWS_PERCENT = 10
_BAR_WIDTH = 16
_TITLE_WIDTH = 22
_DEFAULT_WIDTH = 80
_ERASE = "\r\x1b[2K"


@dataclass
class _Line:
    label: str
    title: str
    detail: str = ""
    fraction: float | None = None
    remaining: float | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began


class Screen:
    """One stage is open at a time. Everything shown also goes to the log, as plain lines."""

    def __init__(self, stream: TextIO, log: TextIO, *, live: bool | None = None) -> None:
        self._stream = stream
        self._log = log
        self._stages = 0
        self._live = is_terminal(stream) if live is None else live
        self._number = 0
        self._line: _Line | None = None
        self._shown: tuple[str, float | None, float] | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.timings: list[tuple[str, float]] = []
        if self._live:
            threading.Thread(target=self._tick, daemon=True).start()

    def announce(self, stages: int) -> None:
        """Say how many numbered stages there will be."""
        self._stages = stages

    def begin(self, title: str, *, continued: bool = False) -> None:
        """Open a stage; a continued one is a part of the stage before."""
        if not continued:
            self._number += 1
        label = f"[{self._number}/{self._stages}]"
        with self._lock:
            self._line = _Line(" " * len(label) if continued else label, title)
            self._shown = None
            self._draw()

    def update(self, detail: str = "", fraction: float | None = None, remaining: float | None = None) -> None:
        """Say what the open stage is at: `fraction` from 0 to 1, `remaining` in seconds."""
        with self._lock:
            if self._line is None:
                return
            self._line.detail, self._line.fraction, self._line.remaining = detail, fraction, remaining
            if self._live:
                self._draw()
            elif self._is_news(self._line):
                self._shown = (detail, fraction, time.monotonic())
                self._print(f"{_head(self._line)}  {_progress(self._line)}")

    def end(self, detail: str = "") -> None:
        """Close the open stage."""
        line = self._close("ok", detail)
        if line:
            self.timings.append((line.title, line.elapsed))

    def fail(self, mark: str) -> str:
        """Close the open stage with that mark; returns its title, or that of the last one when none is open."""
        line = self._close(mark, "")
        if line:
            return line.title
        return self.timings[-1][0] if self.timings else ""

    def text(self, text: str = "") -> None:
        """Print lines while no stage is open."""
        self._print(text)

    def raw(self, text: str) -> None:
        """Print without ending the line, while no stage is open."""
        self._stream.write(text)
        self._stream.flush()
        self._log.write(text)

    def close(self) -> None:
        """Stop redrawing."""
        self._closed.set()

    def _close(self, mark: str, detail: str) -> _Line | None:
        with self._lock:
            line, self._line = self._line, None
            if line:
                self._stream.write(_ERASE if self._live else "")
                self._print(f"{_head(line)}  {mark}  {detail}".rstrip())
            return line

    def _tick(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            with self._lock:
                if self._line is not None:
                    self._draw()

    def _draw(self) -> None:
        if not self._live or self._line is None:
            return
        width = _width(self._stream) - 1
        line = f"{_head(self._line)}  {_progress(self._line)}"
        self._stream.write(_ERASE + (line if len(line) <= width else line[: width - 1] + "…"))
        self._stream.flush()

    def _is_news(self, line: _Line) -> bool:
        if not line.detail and line.fraction is None:
            return False
        if self._shown is None or _topic(self._shown[0]) != _topic(line.detail):
            return True
        _, fraction, when = self._shown
        advance = _percent(line.fraction) - _percent(fraction)
        return advance >= _NEWS_PERCENT or time.monotonic() - when >= _NEWS_SECONDS

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
        self._log.write(text + "\n")
        self._log.flush()


def is_terminal(stream: TextIO) -> bool:
    """Whether lines can be redrawn there."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _width(stream: TextIO) -> int:
    try:
        # A terminal that does not know its size says 0.
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_WIDTH
    except OSError:
        return _DEFAULT_WIDTH


def duration(seconds: float) -> str:
    """Seconds for people: `4.2 s`, `3:05 min`."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _head(line: _Line) -> str:
    return f"{line.label} {line.title:<{_TITLE_WIDTH}} {duration(line.elapsed):>9}"


def _progress(line: _Line) -> str:
    parts = []
    if line.fraction is not None:
        percent = _percent(line.fraction)
        filled = _BAR_WIDTH * percent // 100
        parts.append(f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {percent:3d}%")
    if line.remaining is not None:
        parts.append(f"ETA {int(line.remaining) // 60}:{int(line.remaining) % 60:02d}")
    if line.detail:
        parts.append(line.detail)
    return "  ".join(parts)


def _topic(detail: str) -> str:
    # A count that goes up is the same news: `compiling: 3 of 9`, `compiling: 4 of 9`.
    return re.sub(r"\d+", "", detail)


def _percent(fraction: float | None) -> int:
    return round(100 * min(1.0, max(0.0, fraction or 0.0)))
