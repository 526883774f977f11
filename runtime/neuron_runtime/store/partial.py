"""A file that arrives in several byte ranges at a time, is hashed while it does, and is resumed after a restart.

SHA-256 has to be taken in order. So one thread follows the ranges, first to last, as far as each has arrived, and
hashes them where they lie in the page cache: the transfer goes on beside it, and no range is held in memory or read
again. How far each range is stands behind the file's own bytes until it is complete.
"""

import hashlib
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ARRIVED = struct.Struct("<Q")
# Enough to be worth a turn of the lock, few enough to be still in the processor's cache.
_HASH_STEP = 4 * 1024 * 1024


@dataclass
class Part:
    """Bytes [start, stop) of the file, of which those before `position` have arrived."""

    number: int
    start: int
    stop: int
    position: int


class PartialFile:
    """A file of `size` bytes that grows at `path` in ranges of `part_size` bytes."""

    def __init__(self, path: Path, size: int, part_size: int) -> None:
        self.path = path
        self._size = size
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._failure: BaseException | None = None
        starts = range(0, size, part_size)
        arrived = self._resume(len(starts))
        self.parts = tuple(
            Part(number, start, min(start + part_size, size), min(start + arrived[number], start + part_size, size))
            for number, start in enumerate(starts)
        )

    def _resume(self, parts: int) -> list[int]:
        """Bytes of each part that an earlier process has left; makes the file when there is none."""
        whole = self._size + _ARRIVED.size * parts
        if self.path.is_file() and self.path.stat().st_size == whole:
            with self.path.open("rb") as file:
                file.seek(self._size)
                return [arrived for (arrived,) in _ARRIVED.iter_unpack(file.read())]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("wb") as file:
            file.truncate(whole)
        return [0] * parts

    @property
    def arrived(self) -> int:
        """Bytes that are there."""
        return sum(part.position - part.start for part in self.parts)

    @contextmanager
    def writing(self, part: Part) -> Iterator[Callable[[memoryview], None]]:
        """Gives a function that adds what comes next in a part. Parts may be written by several threads."""
        descriptor = os.open(self.path, os.O_WRONLY)

        def write(data: memoryview) -> None:
            written = 0
            # The kernel lets one thread write to a file at a time, and others wait for it without sleeping.
            with self._writing:
                while written < len(data):
                    written += os.pwrite(descriptor, data[written:], part.position + written)
                arrived = part.position + written - part.start
                os.pwrite(descriptor, _ARRIVED.pack(arrived), self._size + _ARRIVED.size * part.number)
            with self._changed:
                part.position += written
                self._changed.notify_all()

        try:
            yield write
        finally:
            os.close(descriptor)

    def fail(self, error: BaseException) -> None:
        """Let `sha256` raise, for no more will arrive."""
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file, which is taken while it arrives. Raises what `fail` was told."""
        digest = hashlib.sha256()
        if self._size == 0:
            return digest.hexdigest()
        with (
            self.path.open("rb") as file,
            mmap.mmap(file.fileno(), self._size, prot=mmap.PROT_READ) as content,
            memoryview(content) as view,
        ):
            for part in self.parts:
                position = part.start
                while position < part.stop:
                    step = min(self._wait(part, position), position + _HASH_STEP)
                    digest.update(view[position:step])
                    position = step
        return digest.hexdigest()

    def complete(self, target: Path) -> None:
        """Give the file its name, now that it is what it should be."""
        os.truncate(self.path, self._size)
        self.path.replace(target)

    def _wait(self, part: Part, position: int) -> int:
        """How far the part is, once that is beyond `position`."""
        with self._changed:
            self._changed.wait_for(lambda: part.position > position or self._failure is not None)
            if part.position <= position and self._failure is not None:
                raise self._failure
            return part.position
