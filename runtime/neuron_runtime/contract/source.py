"""Which files of a model source are taken, what digest they have together, and the manifest that commits a snapshot.

The operator computes the digest from the hub's metadata; the compile Job computes it again from what it downloaded.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .digests import ContractModel, Digest, digest_of

POOLING = "1_Pooling/config.json"

PICKLE_INDEX = "pytorch_model.bin.index.json"

_WEIGHT_SUFFIX = ".safetensors"
_PICKLE = re.compile(r"pytorch_model(-\d{1,9}-of-\d{1,9})?\.bin", re.ASCII)
_METADATA_SUFFIXES = (".json", ".jinja", ".model")
_METADATA_NAMES = frozenset({"merges.txt", "vocab.txt"})


class SourceFile(ContractModel):
    """One file of a source, as its origin describes it."""

    path: str
    """Relative, with forward slashes; never absolute, never with `..`."""
    size: Annotated[int, Field(ge=0, lt=2**50)]
    content_id: str
    """Names the content: `lfs-sha256:<hex>` or `git-blob:<hex>` on the Hugging Face hub; `s3-etag:<ETag>`, or
    `s3-version:<version id>:<ETag>` in a bucket that keeps versions; `sha256:<hex>` in a claim."""


def is_taken(path: str) -> bool:
    """Whether a file of a repository belongs to the snapshot: safetensors, tokenizer and configuration.

    Only files at the top level: subfolders of hub repositories hold other formats of the same weights
    (`onnx/`, `original/`). The one exception: how sentence-transformers makes one vector of many stands in a folder.
    Pickled weights and archives are none of them: `taken_files` adds the former where that is allowed, and nothing
    ever unpacks the latter.
    """
    pure = PurePosixPath(path)
    if path == POOLING:
        return True
    if pure.is_absolute() or len(pure.parts) != 1 or pure.name.startswith("."):
        return False
    return pure.name.endswith((_WEIGHT_SUFFIX, *_METADATA_SUFFIXES)) or pure.name in _METADATA_NAMES


def is_pickle(path: str) -> bool:
    """Whether a file is one of a checkpoint's pickles: `pytorch_model.bin`, or its shards, at the top level."""
    return _PICKLE.fullmatch(path) is not None


def is_weights(path: str) -> bool:
    """Whether a file holds weights: next to them, all other files are small."""
    return path.endswith(_WEIGHT_SUFFIX) or is_pickle(path)


def taken_files(files: Iterable[SourceFile], *, allow_pickle: bool = False) -> tuple[SourceFile, ...]:
    """The files that belong to the snapshot, sorted by path.

    Pickles are among them only if that is allowed and there are no safetensors.
    """
    listed = tuple(files)
    taken = [file for file in listed if is_taken(file.path)]
    if allow_pickle and not any(is_weights(file.path) for file in taken):
        taken += [file for file in listed if is_pickle(file.path)]
    return tuple(sorted(taken, key=lambda file: file.path))


def source_digest(files: Iterable[SourceFile], *, allow_pickle: bool = False) -> Digest:
    """Digest of the taken files. Repository, revision and endpoint are not in it: equal content is an equal source."""
    taken = taken_files(files, allow_pickle=allow_pickle)
    return digest_of([[file.path, file.size, file.content_id] for file in taken])


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
    """Of the files at the origin. Pickled weights are converted on the way, so it is not one of `files`."""
    repo: str
    """The origin's `location`, for people."""
    commit: str
    """The origin's commit, for people; empty where there is none."""
    files: tuple[StoredFile, ...]
