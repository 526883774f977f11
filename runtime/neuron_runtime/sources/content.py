"""Content ids: what an origin says a file's content is, checked against what arrived."""

import hashlib
from pathlib import Path

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceFile
from neuron_runtime.store.files import CHUNK, sha256_of

LFS_SHA256 = "lfs-sha256"
GIT_BLOB = "git-blob"
SHA256 = "sha256"
S3_ETAG = "s3-etag"
S3_VERSION = "s3-version"
"""Both of S3 name an object, not its content: a file cannot be checked against them."""


def content_id(path: Path, scheme: str) -> str:
    """Content id of a local file under a scheme. Raises ContainerFailure(SOURCE_CHANGED) for an unknown scheme."""
    if scheme in (LFS_SHA256, SHA256):
        return f"{scheme}:{sha256_of(path)}"
    if scheme == GIT_BLOB:
        return f"{GIT_BLOB}:{_git_blob(path)}"
    raise ContainerFailure(FailureCode.SOURCE_CHANGED, f"{path.name}: content ids of the kind {scheme!r} are not known")


def is_intact(path: Path, file: SourceFile) -> bool:
    """Whether the file lies at `path` with the size and content that its origin named."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return content_id(path, file.content_id.partition(":")[0]) == file.content_id


def md5_of(path: Path) -> str:
    """MD5 of a file in hexadecimal."""
    # S3 takes it for the ETag of objects that were put as one; it is not our choice of a hash.
    return _hash(path, hashlib.md5(usedforsecurity=False))


def _git_blob(path: Path) -> str:
    """git's object id of a file: SHA-1 over a header and the content."""
    # git names objects by SHA-1; it is what the hub tells us, not our choice of a hash.
    return _hash(path, hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False))


def _hash(path: Path, digest: "hashlib._Hash") -> str:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
