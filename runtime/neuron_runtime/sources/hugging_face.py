"""A Hugging Face repository at one commit, downloaded anonymously and verified file by file.

huggingface_hub does the transfer (resume, retries, xet). It reads its settings (`HF_ENDPOINT`, caches, telemetry) from
the environment when it is imported: so it is imported by the first fetch, once the caches have their place.
"""

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.origin import HuggingFaceOrigin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceFile, SourceManifest, is_weights, source_digest, taken_files
from neuron_runtime.store.files import ByteCount, Report, contained, describe_files

from .content import GIT_BLOB, LFS_SHA256, is_intact

_LISTING_ATTEMPTS = 3
_LISTING_TIMEOUT = 20.0
# Releases of the library differ in which HTTP client they use.
_LIBRARIES = frozenset({"huggingface_hub", "hf_xet", "httpx", "httpx2"})
_QUERY = re.compile(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>]*")


def fetch(
    origin: HuggingFaceOrigin, expected_digest: Digest, folder: Path, report: Report, check: Callable[[], None]
) -> SourceManifest:
    """Bring the files that belong to the snapshot into `folder`; files that are there already are kept.

    `check` is called once all files but the weights are there; what it raises ends the fetch.

    Raises ContainerFailure: SOURCE_NOT_FOUND, SOURCE_ACCESS_DENIED, SOURCE_UNREACHABLE, or SOURCE_CHANGED when the
    repository's files, or the bytes that arrived, are not those that `expected_digest` was made of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _prepare_environment(folder.parent / "hugging-face")
    files = taken_files(_list(origin))
    found = source_digest(files)
    if found != expected_digest:
        raise ContainerFailure(
            FailureCode.SOURCE_CHANGED,
            f"{_name(origin)} has the source digest {found}, but {expected_digest} was resolved: "
            "the repository's history was rewritten, or the hub answers differently than before",
        )
    count = ByteCount(sum(file.size for file in files), report)
    for file in files:
        if not is_weights(file.path):
            _bring(origin, file, folder, count)
    check()
    for file in files:
        if is_weights(file.path):
            _bring(origin, file, folder, count)
    # The library's own notes about the downloads are no part of the snapshot.
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    stored = describe_files(folder, (file.path for file in files))
    return SourceManifest(digest=found, repo=origin.repo, commit=origin.commit, files=stored)


def _prepare_environment(cache: Path) -> None:
    """Place the library's caches on the volume, since the root file system is read-only, and keep it from phoning."""
    os.environ.setdefault("HF_HOME", str(cache))
    os.environ.setdefault("HF_XET_CACHE", str(cache / "xet"))
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # The library's HTTP client logs every address, and those of downloads are signed: whoever has one may read.
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    # The library itself does so when it tries again.
    logging.getLogger("huggingface_hub.file_download").addFilter(_unsign)


def _list(origin: HuggingFaceOrigin) -> tuple[SourceFile, ...]:
    """Every file of the repository at the commit."""
    from huggingface_hub import HfApi

    for attempt in range(1, _LISTING_ATTEMPTS + 1):
        try:
            info = HfApi(token=False).model_info(
                origin.repo, revision=origin.commit, files_metadata=True, timeout=_LISTING_TIMEOUT
            )
        except Exception as error:  # whatever it is, `_failure` knows it for the hub's, or it is passed on
            failure = _failure(error, origin)
            if failure is None:
                raise
            if failure.code is not FailureCode.SOURCE_UNREACHABLE or attempt == _LISTING_ATTEMPTS:
                raise failure from error
            time.sleep(0.5 * 2**attempt)
        else:
            return tuple(_source_file(sibling, origin) for sibling in info.siblings or [])
    raise AssertionError("the last attempt returns or raises")


def _source_file(sibling: Any, origin: HuggingFaceOrigin) -> SourceFile:
    if sibling.lfs is not None:
        return SourceFile(
            path=sibling.rfilename, size=sibling.lfs.size, content_id=f"{LFS_SHA256}:{sibling.lfs.sha256}"
        )
    if sibling.blob_id is None:
        raise ContainerFailure(
            FailureCode.SOURCE_UNREACHABLE,
            f"{_endpoint()} lists {sibling.rfilename} of {_name(origin)} without its content id; it is not a hub that "
            "answers `blobs=true`",
        )
    return SourceFile(path=sibling.rfilename, size=sibling.size or 0, content_id=f"{GIT_BLOB}:{sibling.blob_id}")


def _bring(origin: HuggingFaceOrigin, file: SourceFile, folder: Path, count: ByteCount) -> None:
    target = contained(folder, file.path)
    if is_intact(target, file):
        count.add(file.size)
        return
    _download(origin, file, folder, count)
    if not is_intact(target, file):
        target.unlink(missing_ok=True)
        raise ContainerFailure(
            FailureCode.SOURCE_CHANGED,
            f"{file.path} of {_name(origin)} arrived with another content than {file.content_id}, which {_endpoint()} "
            "had listed; a proxy or mirror in between may hold an old copy",
        )


def _download(origin: HuggingFaceOrigin, file: SourceFile, folder: Path, count: ByteCount) -> None:
    from huggingface_hub import hf_hub_download

    moved = 0

    class Progress:
        """Stands where the library expects a progress bar."""

        def __init__(self, *_args: object, **_settings: object) -> None:
            pass

        def __enter__(self) -> "Progress":
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            pass

        def update(self, size: float | None = 1) -> None:
            nonlocal moved
            # Resumed and repeated transfers must not count beyond the file.
            step = min(int(size or 0), file.size - moved)
            moved += step
            count.add(step)

    try:
        hf_hub_download(
            origin.repo,
            file.path,
            revision=origin.commit,
            local_dir=folder,
            token=False,
            tqdm_class=Progress,
        )
    except Exception as error:  # as above
        failure = _failure(error, origin)
        if failure is None:
            raise
        raise failure from error
    count.add(file.size - moved)


def _failure(error: Exception, origin: HuggingFaceOrigin) -> ContainerFailure | None:
    """The failure that an error on the way from the hub stands for; None for errors of another kind."""
    from huggingface_hub import errors

    name, hub = _name(origin), _endpoint()
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _failure(error.__cause__, origin)
    if isinstance(error, errors.GatedRepoError):
        return ContainerFailure(
            FailureCode.SOURCE_ACCESS_DENIED, f"{name} on {hub} is gated; it cannot be read anonymously"
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.HFValidationError):
        return ContainerFailure(
            FailureCode.SOURCE_NOT_FOUND,
            f"{name} does not exist on {hub}, or is private; check spec.model.huggingFace.repo and revision",
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return ContainerFailure(
            FailureCode.SOURCE_CHANGED, f"a file that {hub} lists for {name} is gone: {without_queries(str(error))}"
        )
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return ContainerFailure(
            FailureCode.SOURCE_ACCESS_DENIED, f"{hub} refused to give {name} to an anonymous reader ({status})"
        )
    if status == 429:
        return ContainerFailure(
            FailureCode.SOURCE_UNREACHABLE, f"{hub} limits the rate of requests (429) for {name}; it passes by waiting"
        )
    if "os error 28" in str(error):
        # hf_xet's words for a full disk, in a RuntimeError.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
    if not _is_of_the_way(error):
        return None
    return ContainerFailure(
        FailureCode.SOURCE_UNREACHABLE,
        f"{name} cannot be read from {hub}: {type(error).__name__}: {without_queries(str(error))}; "
        "check egress and HF_ENDPOINT",
    )


def _is_of_the_way(error: Exception) -> bool:
    """Whether hub, network or the library in between failed, and not this machine or our own code."""
    if any(kind.__module__.partition(".")[0] in _LIBRARIES for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError):
        # The library raises bare ones for bodies of another length than announced.
        return error.errno is None or isinstance(error, ConnectionError | TimeoutError)
    # hf_xet has no class of its own for most of its errors.
    return isinstance(error, RuntimeError)


def without_queries(text: str) -> str:
    """A text whose addresses have lost their queries, where signatures are."""
    return _QUERY.sub(r"\1?...", text)


def _unsign(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_queries(record.getMessage()), None
    return True


def _name(origin: HuggingFaceOrigin) -> str:
    return f"{origin.repo}@{origin.commit}"


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT
