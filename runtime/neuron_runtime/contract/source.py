"""Which files of a model source are taken, what digest they have together, and the manifest that commits a snapshot.

The operator computes the digest from the hub's metadata; the compile Job computes it again from what it downloaded.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, StringConstraints

from .digests import ContractModel, Digest, digest_of

POOLING = "1_Pooling/config.json"

_WEIGHT_SUFFIX = ".safetensors"
_METADATA_SUFFIXES = (".json", ".jinja", ".model")
_METADATA_NAMES = frozenset({"merges.txt", "vocab.txt"})


class SourceFile(ContractModel):
    """One file of a source, as its origin describes it."""

    path: str
    """Relative, with forward slashes; never absolute, never with `..`."""
    size: NonNegativeInt
    content_id: str
    """Names the content: `lfs-sha256:<hex>` or `git-blob:<hex>` on the Hugging Face hub."""


def is_taken(path: str) -> bool:
    """Whether a file of a repository belongs to the snapshot: safetensors, tokenizer and configuration.

    Only files at the top level: subfolders of hub repositories hold other formats of the same weights
    (`onnx/`, `original/`), and pickled weights (`*.bin`, `*.pt`) are never taken. The one exception: how
    sentence-transformers makes one vector of many stands in a folder.
    """
    pure = PurePosixPath(path)
    if path == POOLING:
        return True
    if pure.is_absolute() or len(pure.parts) != 1 or pure.name.startswith("."):
        return False
    return pure.name.endswith((_WEIGHT_SUFFIX, *_METADATA_SUFFIXES)) or pure.name in _METADATA_NAMES


def is_weights(path: str) -> bool:
    """Whether a file holds weights: next to them, all other files are small."""
    return path.endswith(_WEIGHT_SUFFIX)


def taken_files(files: Iterable[SourceFile]) -> tuple[SourceFile, ...]:
    """The files that belong to the snapshot, sorted by path."""
    return tuple(sorted((file for file in files if is_taken(file.path)), key=lambda file: file.path))


def source_digest(files: Iterable[SourceFile]) -> Digest:
    """Digest of the taken files. Repository, revision and endpoint are not in it: equal content is an equal source."""
    return digest_of([[file.path, file.size, file.content_id] for file in taken_files(files)])


class StoredFile(ContractModel):
    """One file below a manifest in the store."""

    path: str
    size: Annotated[int, Field(ge=0, lt=2**63)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Hexadecimal. Readers verify size and hash of everything that they load."""


class SourceManifest(ContractModel):
    """Commits a source snapshot in the store; it is put last."""

    contract_version: Literal[1] = 1
    digest: Digest
    repo: str
    commit: str
    files: tuple[StoredFile, ...]
