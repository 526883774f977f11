"""What a broken way does to a stream of watch events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp

WATCH_FAULTS = ("410", "429", "503", "reset", "told 410", "told 500")
EVENT_FAULTS = ("dropped", "duplicated", "stale", "late", "closed", "cut")

_LATE_SECONDS = 0.5


class Stream:
    """Events of one watch on their way, one line each. `history` is what was told before, by whichever watch."""

    def __init__(self, draw: Callable[[], str | None], history: list[bytes]) -> None:
        self._draw = draw
        self._history = history
        self.cut = False
        """Whether the connection is to end in the middle of an event."""

    async def of(self, upstream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
        """What arrives of the upstream's events. A replayed event is the oldest one there was."""
        async for line in _lines(upstream):
            match self._draw():
                case "dropped":
                    continue
                case "duplicated":
                    yield line + line
                case "stale":
                    yield line + (self._history[0] if self._history else b"")
                case "late":
                    await asyncio.sleep(_LATE_SECONDS)
                    yield line
                case "closed":
                    return
                case "cut":
                    self.cut = True
                    yield line[: len(line) // 2]
                    return
                case _:
                    yield line
            self._history.append(line)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in stream.iter_any():
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            yield line + b"\n"
