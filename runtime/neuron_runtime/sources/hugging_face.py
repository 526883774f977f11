"""A Hugging Face repository at a revision, downloaded and verified file by file.

huggingface_hub does the transfer (resume, retries, xet, and the token's way: not to the host that delivers).
"""

import re
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from neuron_runtime.contract.origin import SecretKey
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceFile
from neuron_runtime.store.files import ByteCount

from .base import may_be_taken, refuse_strange_names
from .content import GIT_BLOB, LFS_SHA256, is_intact
from .hub_client import Patience, prepare
from .hub_failures import Asked

_LISTING_TIMEOUT = 20.0
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_PASSING = frozenset({FailureCode.SOURCE_UNREACHABLE})


class HuggingFaceSource:
    """A repository of a hub at one revision."""

    def __init__(
        self,
        repo: str,
        revision: str,
        endpoint: str | None,
        token: str | None,
        secret: SecretKey | None,
        cache: Path,
        patience: Patience,
    ) -> None:
        """`cache` is a folder for the library's own files. Raises ContainerFailure(INVALID_SPEC)."""
        prepare(cache)
        from huggingface_hub import constants

        if endpoint is not None and not endpoint.startswith(("https://", "http://")):
            raise ContainerFailure(
                FailureCode.INVALID_SPEC, f"spec.model.huggingFace.endpoint {endpoint!r} is no address of http or https"
            )
        self._endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token = token
        self._patience = patience
        self._asked = Asked(repo, revision, self._endpoint, secret, self._redact)
        self._commit = revision
        self._notes = set[Path]()

    @property
    def name(self) -> str:
        """Repository and revision."""
        return self._asked.name

    @property
    def commit(self) -> str:
        """What the revision names."""
        return self._commit

    def files(self) -> tuple[SourceFile, ...]:
        """The files at the revision, as the hub lists them."""
        info = self._ask(self._list)
        try:
            if not _COMMIT.fullmatch(info.sha):
                raise self._no_hub()
            self._commit = info.sha
            siblings = [sibling for sibling in info.siblings or [] if may_be_taken(sibling.rfilename)]
            refuse_strange_names((sibling.rfilename for sibling in siblings), self.name)
            return tuple(self._source_file(sibling) for sibling in siblings)
        except (TypeError, AttributeError, ValueError) as error:
            raise self._no_hub() from error

    def bring(self, file: SourceFile, target: Path, count: ByteCount) -> None:
        """Download a file, unless it is there."""
        if is_intact(target, file):
            count.add(file.size)
            return
        self._ask(lambda: self._download(file, target, count))
        if not is_intact(target, file):
            target.unlink(missing_ok=True)
            raise ContainerFailure(
                FailureCode.SOURCE_CHANGED,
                f"{file.path} of {self.name} arrived with another content than {file.content_id}, which "
                f"{self._endpoint} had listed; a proxy or mirror in between may hold an old copy",
            )

    def close(self) -> None:
        """Remove the library's own notes about the downloads: they are no part of the snapshot."""
        for folder in self._notes:
            shutil.rmtree(folder, ignore_errors=True)

    def _ask(self, call: Any) -> Any:
        """What a call of the library answers, after waiting where that is worth it. Raises ContainerFailure."""
        try:
            return self._patience.run(call, self._is_passing)
        except Exception as error:  # whatever it is, `Asked` knows it for the hub's, or it is passed on
            failure = self._asked.failure(error)
            if failure is None:
                raise
            # Errors of the library hold requests, and those the token: none may end up in a log as the cause.
            raise failure from None

    def _is_passing(self, error: Exception) -> bool:
        failure = self._asked.failure(error)
        return failure is not None and failure.code in _PASSING

    def _list(self) -> Any:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self._endpoint, token=self._token or False)
        try:
            return api.model_info(
                self._asked.repo, revision=self._asked.revision, files_metadata=True, timeout=_LISTING_TIMEOUT
            )
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            failure = self._asked.failure(error)
            raise failure or self._no_hub() from None

    def _source_file(self, sibling: Any) -> SourceFile:
        path = sibling.rfilename
        if sibling.lfs is not None:
            return SourceFile(path=path, size=sibling.lfs.size, content_id=f"{LFS_SHA256}:{sibling.lfs.sha256}")
        if sibling.blob_id is None:
            raise ContainerFailure(
                FailureCode.SOURCE_UNREACHABLE,
                f"{self._endpoint} lists {path} of {self.name} without its content id; it is not a hub that answers "
                "`blobs=true`",
            )
        return SourceFile(path=path, size=sibling.size or 0, content_id=f"{GIT_BLOB}:{sibling.blob_id}")

    def _download(self, file: SourceFile, target: Path, count: ByteCount) -> None:
        from huggingface_hub import hf_hub_download

        folder = target
        for _ in Path(file.path).parts:
            folder = folder.parent
        self._notes.add(folder / ".cache")
        progress = _progress_bar(file.size, count)
        try:
            hf_hub_download(
                self._asked.repo,
                file.path,
                revision=self._commit,
                local_dir=folder,
                endpoint=self._endpoint,
                token=self._token or False,
                tqdm_class=progress,
            )
        except BaseException:
            # It is tried again, or the source fails: either way these bytes do not count twice.
            count.add(-progress.moved)
            raise
        count.add(file.size - progress.moved)

    def _redact(self, text: str) -> str:
        return text.replace(self._token, "(token)") if self._token else text

    def _no_hub(self) -> ContainerFailure:
        return self._asked.unreachable("it answered something else than a hub does")


def _progress_bar(size: int, count: ByteCount) -> Any:
    """A class that stands where the library expects a progress bar; its `moved` are the bytes that were counted."""

    class Progress:
        moved = 0

        def __init__(self, *_args: object, **_settings: object) -> None:
            pass

        def __enter__(self) -> "Progress":
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            pass

        def update(self, moved: float | None = 1) -> None:
            # Resumed and repeated transfers must not count beyond the file.
            step = min(int(moved or 0), size - Progress.moved)
            Progress.moved += step
            count.add(step)

    return Progress
