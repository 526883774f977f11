"""A folder as a Hugging Face repository sees it: content ids of every file, and the commit that they make.

Hashes are kept beside the repositories and go by size and modification time, so that a model of many gigabytes is
read once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_LARGE_SUFFIXES = (".safetensors",)
_SEGMENT = re.compile(r"[A-Za-z0-9_][\w.-]*")
_HASHES = ".hashes"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class LargeFile:
    """What git holds instead of a large file is a pointer of `pointer_size` bytes."""

    sha256: str
    pointer_size: int


@dataclass(frozen=True)
class RepositoryFile:
    """`blob_id` is git's object id of what git holds: the file, or the pointer to it."""

    path: str
    size: int
    blob_id: str
    lfs: LargeFile | None

    @property
    def etag(self) -> str:
        """What the hub takes as the entity tag: it names the content."""
        return self.lfs.sha256 if self.lfs else self.blob_id


@dataclass(frozen=True)
class Repository:
    """A repository at its only commit, which follows from the content."""

    name: str
    folder: Path
    commit: str
    files: Mapping[str, RepositoryFile]

    def has_revision(self, revision: str) -> bool:
        return revision in ("main", self.commit)


class Repositories:
    """The repositories below a folder: `ROOT/{organization}/{name}/...`. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hashing = threading.Lock()

    def find(self, organization: str, name: str) -> Repository | None:
        """The repository as its folder is now."""
        folder = self._root / organization / name
        if not (_SEGMENT.fullmatch(organization) and _SEGMENT.fullmatch(name) and folder.is_dir()):
            return None
        files = {path: _describe(path, size, digest) for path, size, digest in self._hashed(folder)}
        return Repository(f"{organization}/{name}", folder, _commit(files), files)

    def _hashed(self, folder: Path) -> list[tuple[str, int, str]]:
        # One at a time: the first requests for a new model would else all hash it.
        with self._hashing:
            memory = self._root / _HASHES / f"{folder.parent.name}--{folder.name}.json"
            known = _load(memory)
            fresh: dict[str, list[int | str]] = {}
            for path in _regular_files(folder):
                relative, stat = path.relative_to(folder).as_posix(), path.stat()
                stamp = [stat.st_size, stat.st_mtime_ns]
                kept = known.get(relative)
                fresh[relative] = kept if kept and kept[:2] == stamp else [*stamp, _digest(path)]
            if fresh != known:
                _save(memory, fresh)
        return [(path, int(entry[0]), str(entry[2])) for path, entry in fresh.items()]


def is_large(path: str) -> bool:
    """Whether the hub would keep the file outside of git."""
    return path.endswith(_LARGE_SUFFIXES)


def _regular_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _describe(path: str, size: int, digest: str) -> RepositoryFile:
    if not is_large(path):
        return RepositoryFile(path, size, blob_id=digest, lfs=None)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n".encode()
    blob_id = _sha1(b"blob %d\0" % len(pointer) + pointer)
    return RepositoryFile(path, size, blob_id, LargeFile(digest, len(pointer)))


def _digest(path: Path) -> str:
    """SHA-256 of a large file, git's blob id of any other."""
    if is_large(path.name):
        hasher = hashlib.sha256()
    else:
        hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _commit(files: Mapping[str, RepositoryFile]) -> str:
    return _sha1("".join(f"{file.blob_id} {path}\n" for path, file in sorted(files.items())).encode())


def _sha1(content: bytes) -> str:
    # git's object ids are SHA-1; nothing here rests on its strength.
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _load(memory: Path) -> dict[str, list[int | str]]:
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def _save(memory: Path, content: Mapping[str, list[int | str]]) -> None:
    # On a read-only folder the hashes are computed again by the next process, and that is all.
    with contextlib.suppress(OSError):
        memory.parent.mkdir(exist_ok=True)
        staged = memory.with_suffix(".new")
        staged.write_text(json.dumps(content), encoding="utf-8")
        staged.replace(memory)
