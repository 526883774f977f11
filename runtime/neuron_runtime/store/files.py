"""Local files as manifests describe them: where they lie, what they hash to, how much of them is done.

Knows nothing of S3 or of a hub: both transfer through it.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import StoredFile

Report = Callable[[int, int], None]
"""Is told (bytes done, bytes in all). Called from several threads, never from two at a time; must return quickly."""

Arrived = Callable[[str], None]
"""Is told the path of each file of a manifest once it lies verified in its place. Must return quickly."""

CHUNK = 1024 * 1024


def ignore(_path: str) -> None:
    """For those who wait for all files, and for none of them."""


class ByteCount:
    """Adds up the bytes that several threads have moved and passes the sum on."""

    def __init__(self, total: int, report: Report) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._total = total
        self._report = report
        report(0, total)

    def add(self, moved: int) -> None:
        """Count bytes; negative when a transfer starts over."""
        with self._lock:
            self._done += moved
            self._report(self._done, self._total)


def contained(folder: Path, path: str, damaged: FailureCode = FailureCode.ARTIFACT_DAMAGED) -> Path:
    """Where a path of a manifest or of a source lies below `folder`. Raises ContainerFailure(`damaged`) for one that
    leaves it.

    Both are data that somebody else wrote: they must not choose what we overwrite. Nothing here unpacks archives, so
    these are all the paths there are.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\\" in path or "\0" in path:
        who = "source" if damaged is FailureCode.SOURCE_UNSAFE else "manifest"
        raise ContainerFailure(
            damaged,
            f"the {who} names the file {path!r}, which is not a relative path below its folder",
        )
    return folder.joinpath(*pure.parts)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
    return digest.hexdigest()


def is_intact(path: Path, file: StoredFile) -> bool:
    """Whether the file lies at `path` with the size and hash that the manifest says."""
    return path.is_file() and path.stat().st_size == file.size and sha256_of(path) == file.sha256


def describe_files(folder: Path, paths: Iterable[str] | None = None) -> tuple[StoredFile, ...]:
    """Size and SHA-256 of the files below a folder, sorted by path; of `paths` alone when given."""
    if paths is None:
        paths = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return tuple(_describe(folder, path) for path in sorted(paths))


def _describe(folder: Path, path: str) -> StoredFile:
    file = contained(folder, path)
    return StoredFile(path=path, size=file.stat().st_size, sha256=sha256_of(file))
