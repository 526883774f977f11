"""Content ids: what a hub says a file's content is, checked against what was downloaded."""

import hashlib
from pathlib import Path

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceFile
from neuron_runtime.store.files import CHUNK, sha256_of

LFS_SHA256 = "lfs-sha256"
GIT_BLOB = "git-blob"


def content_id(path: Path, scheme: str) -> str:
    """Content id of a local file under a scheme. Raises ContainerFailure(SOURCE_CHANGED) for an unknown scheme."""
    if scheme == LFS_SHA256:
        return f"{LFS_SHA256}:{sha256_of(path)}"
    if scheme == GIT_BLOB:
        return f"{GIT_BLOB}:{_git_blob(path)}"
    raise ContainerFailure(FailureCode.SOURCE_CHANGED, f"{path.name}: content ids of the kind {scheme!r} are not known")


def is_intact(path: Path, file: SourceFile) -> bool:
    """Whether the file lies at `path` with the size and content that its origin named."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    return content_id(path, file.content_id.partition(":")[0]) == file.content_id


def _git_blob(path: Path) -> str:
    """git's object id of a file: SHA-1 over a header and the content."""
    # git names objects by SHA-1; it is what the hub tells us, not our choice of a hash.
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
