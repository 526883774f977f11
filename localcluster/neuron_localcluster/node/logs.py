"""Container logs in the format of container runtimes: `<RFC 3339 time> stdout F <line>`, P instead of F for a part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from neuron_localcluster.node import clock

_log = logging.getLogger(__name__)

_LONGEST_PART = 16 * 1024
_MESSAGE_BYTES = 2048
_MESSAGE_LINES = 80


class ContainerLog:
    """The log of one run of a container, while it is written. Readers may wait for more."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.closed = False
        self._file = path.open("ab", buffering=0)
        self._rest = b""
        self._more = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Take what the container wrote; a line is readable once it is complete or 16 KiB long."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        stamp = clock.micros_text(clock.now()).encode("ascii")
        parts = [b"%s stdout F %s\n" % (stamp, line) for line in lines]
        while len(self._rest) >= _LONGEST_PART:
            parts.append(b"%s stdout P %s\n" % (stamp, self._rest[:_LONGEST_PART]))
            self._rest = self._rest[_LONGEST_PART:]
        if parts:
            self._write(b"".join(parts))

    def close(self) -> None:
        """End the log; what is left of an unfinished line is kept."""
        if self.closed:
            return
        self.closed = True
        if self._rest:
            stamp = clock.micros_text(clock.now()).encode("ascii")
            self._write(b"%s stdout P %s\n" % (stamp, self._rest))
        self._file.close()
        self._more.set()

    async def more(self) -> None:
        """Wait until something is added or the log is closed."""
        if not self.closed:
            await self._more.wait()

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            # A full disk costs lines, never the container.
            _log.warning("%s: %s", self.path, error)
        # Each waiter holds the event it waits for: a new one is for what comes after.
        self._more.set()
        self._more = asyncio.Event()


@dataclass(frozen=True)
class LogOptions:
    """What of a log is asked for, as in `PodLogOptions`."""

    tail_lines: int | None = None
    timestamps: bool = False
    since: datetime | None = None


def render(lines: Iterable[bytes], options: LogOptions) -> Iterator[bytes]:
    """What a reader sees of stored lines."""
    continued = False
    for line in lines:
        stamp, _, rest = line.partition(b" stdout ")
        if options.since is not None and clock.parse(stamp.decode("ascii")) < options.since:
            continue
        kind, _, text = rest.partition(b" ")
        prefix = stamp + b" " if options.timestamps and not continued else b""
        continued = kind == b"P"
        yield prefix + (text.rstrip(b"\n") if continued else text)


def tail(lines: list[bytes], count: int | None) -> list[bytes]:
    """The stored lines that make up the last `count` lines of the container."""
    if count is None:
        return lines
    start = len(lines)
    complete = 0
    while start > 0:
        # The end of a line opens the next one; parts before it belong to it.
        if lines[start - 1].split(b" ", 3)[2] == b"F" or start == len(lines):
            if complete == count:
                break
            complete += 1
        start -= 1
    return lines[start:]


def last_words(path: Path) -> str:
    """The end of a log as `FallbackToLogsOnError` takes it: at most 80 lines and 2048 bytes."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)[-2 * _MESSAGE_LINES :]
    except FileNotFoundError:
        return ""
    text = b"".join(render(tail(lines, _MESSAGE_LINES), LogOptions()))
    return text[-_MESSAGE_BYTES:].decode(errors="replace")
