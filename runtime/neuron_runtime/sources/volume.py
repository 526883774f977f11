"""A folder of a mounted claim. Whoever writes to the claim is not trusted to keep readers within the folder.

Every file is opened first and looked at then: a link is followed only to where it still lies within the folder, and
what cannot be told from its path beforehand (a link that is changed meanwhile, a pipe) is told from what was opened.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from neuron_runtime.contract.origin import VolumeOrigin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import POOLING, SourceFile
from neuron_runtime.store.files import CHUNK, ByteCount

from .base import may_be_taken, refuse_strange_names
from .content import SHA256


class VolumeSource:
    """A folder below where a claim is mounted. Raises ContainerFailure for a folder that is none of the claim's."""

    def __init__(self, origin: VolumeOrigin, mount: Path) -> None:
        self._claim = origin.claim_name
        self._path = origin.path
        self._folder = self._resolve(origin.path, mount)

    @property
    def name(self) -> str:
        """Claim and folder."""
        return f"the folder {self._path or '/'!r} of PersistentVolumeClaim {self._claim}"

    @property
    def commit(self) -> str:
        """There are none."""
        return ""

    def files(self) -> tuple[SourceFile, ...]:
        """The files directly in the folder, each read as a whole for its SHA-256."""
        try:
            paths = sorted(entry.name for entry in self._folder.iterdir() if may_be_taken(entry.name))
        except OSError as error:
            raise self._unreadable(error) from error
        refuse_strange_names(paths, self.name)
        found = (self._describe(path) for path in [*paths, POOLING])
        return tuple(file for file in found if file is not None)

    def bring(self, file: SourceFile, target: Path, count: ByteCount) -> None:
        """Copy a file, and hash what is copied."""
        digest, size, partial = hashlib.sha256(), 0, target.with_name(f".{target.name}.partial")
        with self._open(file.path) as descriptor, partial.open("wb") as copy:
            while chunk := self._read(descriptor, file.path):
                size += len(chunk)
                if size > file.size:
                    break
                digest.update(chunk)
                copy.write(chunk)
                count.add(len(chunk))
        if size != file.size or f"{SHA256}:{digest.hexdigest()}" != file.content_id:
            partial.unlink()
            raise ContainerFailure(
                FailureCode.SOURCE_CHANGED, f"{file.path} in {self.name} was changed while it was read"
            )
        partial.replace(target)

    def close(self) -> None:
        """Nothing is left open."""

    def _resolve(self, path: str, mount: Path) -> Path:
        """The folder without links. Raises ContainerFailure(SOURCE_UNSAFE) for one outside of the claim."""
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\0" in path:
            raise self._unsafe(f"spec.model.persistentVolumeClaim.path {path!r} is no relative path below the claim")
        try:
            root = mount.resolve(strict=True)
            folder = (root / pure).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise self._unreadable(error) from error
        if not folder.is_relative_to(root):
            raise self._unsafe(f"{self.name} is a link that leaves the claim")
        return folder

    def _describe(self, path: str) -> SourceFile | None:
        """Size and hash of a file; None where there is none."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._open(path) as descriptor:
                while chunk := self._read(descriptor, path):
                    size += len(chunk)
                    digest.update(chunk)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        return SourceFile(path=path, size=size, content_id=f"{SHA256}:{digest.hexdigest()}")

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        """A regular file in the folder, open for reading.

        Raises ContainerFailure(SOURCE_UNSAFE) for any other, FileNotFoundError and IsADirectoryError.
        """
        try:
            # Not blocking: a pipe would wait for its writer.
            descriptor = os.open(self._folder / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            if (self._folder / path).is_symlink():
                raise self._unsafe(f"{path} in {self.name} is a link to nowhere") from None
            raise
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise self._unsafe(f"{path} in {self.name} is no regular file") from error
            raise self._unreadable(error, path) from error
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(path)
            # The kernel tells where the file lies that is open, whatever led to it.
            real = Path(f"/proc/self/fd/{descriptor}").readlink()
            if not real.is_relative_to(self._folder):
                raise self._unsafe(f"{path} in {self.name} is a link that leaves the folder; put the file itself there")
            if not stat.S_ISREG(mode):
                raise self._unsafe(f"{path} in {self.name} is no regular file")
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, path: str) -> bytes:
        try:
            return os.read(descriptor, CHUNK)
        except OSError as error:
            raise self._unreadable(error, path) from error

    def _unsafe(self, finding: str) -> ContainerFailure:
        return ContainerFailure(FailureCode.SOURCE_UNSAFE, finding)

    def _unreadable(self, error: Exception, path: str | None = None) -> ContainerFailure:
        what = self.name if path is None else f"{path} in {self.name}"
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return ContainerFailure(
                FailureCode.SOURCE_NOT_FOUND,
                f"{what} does not exist ({reason}); check spec.model.persistentVolumeClaim.path",
            )
        if isinstance(error, PermissionError):
            return ContainerFailure(
                FailureCode.SOURCE_ACCESS_DENIED,
                f"{what} cannot be read ({reason}); make it readable for the compile pod's user",
            )
        if isinstance(error, RuntimeError) or getattr(error, "errno", None) == errno.ELOOP:
            return self._unsafe(f"{what} is a link in a circle")
        return ContainerFailure(FailureCode.SOURCE_UNREACHABLE, f"{what} cannot be read: {reason}")
