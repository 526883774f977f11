"""What a source is to the rest: a listing with content ids, and files that are brought and verified one by one."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceFile, is_pickle, is_taken
from neuron_runtime.store.files import ByteCount

_LONGEST_NAME = 255


class Source(Protocol):
    """A pinned source. Every method raises ContainerFailure with a code of a source."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def commit(self) -> str:
        """After `files`: the commit that they are of; empty where there are none."""

    def files(self) -> tuple[SourceFile, ...]:
        """All files that could belong to the snapshot, as the origin has them now."""

    def bring(self, file: SourceFile, target: Path, count: ByteCount) -> None:
        """Put one of `files()` at `target`, verified, and count its bytes."""

    def close(self) -> None:
        """Close connections and files."""


def may_be_taken(path: str) -> bool:
    """Whether a file could belong to a snapshot; what cannot is not looked at any further."""
    return is_taken(path) or is_pickle(path)


def refuse_strange_names(paths: Iterable[str], source: str) -> None:
    """Raises ContainerFailure(SOURCE_UNSAFE) for a name that would lead elsewhere, or cannot be a file's name here.

    Only names that could be taken matter, and those have no slash: what is left is what other systems take for one.
    """
    for path in paths:
        encodable = path.encode("utf-8", "replace").decode() == path
        if "\\" in path or not path.isprintable() or not encodable or _longest_part(path) > _LONGEST_NAME:
            raise ContainerFailure(
                FailureCode.SOURCE_UNSAFE,
                f"{source} has a file with the name {path[:80]!a}, which is refused; give it a plain name",
            )


def _longest_part(path: str) -> int:
    return max((len(part.encode("utf-8", "replace")) for part in PurePosixPath(path).parts), default=0)
