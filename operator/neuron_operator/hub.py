"""Anonymous metadata of a Hugging Face hub: the commit behind a revision, the files at it, and `config.json`.

The operator downloads no weights and holds no token. Repositories that need one are not read here.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuron_operator.errors import OperatorError
from neuron_operator.turns import NoTurn, Turns
from neuron_runtime.contract.source import SourceFile

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_CALLS = 8
# The listing of a repository with thousands of files stays below this; a hostile one must not fill our memory.
_BODY_LIMIT = 8 * 1024 * 1024
_LONGEST_PAUSE_SECONDS = 3600


class SourceNotFound(OperatorError):
    """No such repository, or no such revision, for an anonymous reader."""


class SourceAccessDenied(OperatorError):
    """The repository is gated or private."""


class SourceUnreadable(OperatorError):
    """The repository is there, but is not a model of the transformers form."""


class SourceUnreachable(OperatorError):
    """The hub did not answer as a hub does. `after` is the wait in seconds that it asked for, if it did."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class SourceRateLimited(SourceUnreachable):
    """The hub answers, but not to us now (429)."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _LargeFile(_Answer):
    sha256: str
    size: int


class _Sibling(_Answer):
    rfilename: str
    size: int | None = None
    blob_id: str | None = Field(default=None, alias="blobId")
    lfs: _LargeFile | None = None


class _RepositoryInfo(_Answer):
    """`GET /api/models/<repo>/revision/<revision>?blobs=true`, as far as it is read."""

    sha: str
    siblings: tuple[_Sibling, ...] = ()


@dataclass(frozen=True)
class HubSource:
    """A repository at one commit."""

    repo: str
    commit: str
    files: tuple[SourceFile, ...]
    config: Mapping[str, Any]


class HuggingFaceHub:
    """A hub at one endpoint, read anonymously."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint.rstrip("/")
        self._turns = Turns(_CALLS)

    async def resolve(self, repo: str, revision: str) -> HubSource:
        """Resolve a revision to its commit.

        Raises SourceNotFound, SourceAccessDenied, SourceUnreadable or SourceUnreachable.
        """
        async with self._turn():
            return await self._resolve(repo, revision)

    async def commit(self, repo: str, revision: str) -> str:
        """The commit that a revision names now. Raises SourceNotFound, SourceAccessDenied or SourceUnreachable."""
        async with self._turn():
            return (await self._info(repo, revision, {})).sha

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with self._turns.take():
                yield
        except NoTurn as error:
            raise SourceUnreachable(f"{self._endpoint} is slow to answer for other models") from error

    async def _info(self, repo: str, revision: str, query: Mapping[str, str]) -> _RepositoryInfo:
        what = f"{repo} at revision {revision}"
        path = f"/api/models/{quote(repo)}/revision/{quote(revision, safe='')}"
        try:
            return _RepositoryInfo.model_validate_json(await self._get(path, what, query))
        except ValidationError as error:
            raise SourceUnreachable(f"{self._endpoint} answered something else than a hub does for {what}") from error

    async def _resolve(self, repo: str, revision: str) -> HubSource:
        what = f"{repo} at revision {revision}"
        info = await self._info(repo, revision, {"blobs": "true"})
        try:
            files = tuple(_source_file(sibling) for sibling in info.siblings)
        except ValidationError as error:
            raise SourceUnreachable(f"{self._endpoint} answered something else than a hub does for {what}") from error
        if not any(file.path == "config.json" for file in files):
            raise SourceUnreadable(f"{what} on {self._endpoint} has no config.json")
        config = _parse(await self._get(f"/{quote(repo)}/resolve/{info.sha}/config.json", f"config.json of {what}", {}))
        if not isinstance(config, dict):
            raise SourceUnreadable(f"config.json of {what} on {self._endpoint} is not a JSON object")
        return HubSource(repo=repo, commit=info.sha, files=files, config=config)

    async def _get(self, path: str, what: str, query: Mapping[str, str]) -> bytes:
        try:
            async with self._session.get(f"{self._endpoint}{path}", params=query, timeout=_TIMEOUT) as response:
                self._check(response, what)
                return await _read_bounded(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SourceUnreachable(f"{self._endpoint} cannot be reached: {error or type(error).__name__}") from error

    def _check(self, response: aiohttp.ClientResponse, what: str) -> None:
        status = response.status
        if status == 200:
            return
        reason = response.headers.get("X-Error-Code", "")
        # The hub hides from anonymous readers whether a repository is private or absent: both answer 401.
        if status == 404 or reason in ("RepoNotFound", "RevisionNotFound"):
            raise SourceNotFound(f"{what} does not exist on {self._endpoint}, or is private")
        if status in (401, 403):
            kind = "gated" if reason == "GatedRepo" else "gated or private"
            raise SourceAccessDenied(f"{what} on {self._endpoint} is {kind}; it cannot be read without a token")
        error = SourceRateLimited if status == 429 else SourceUnreachable
        raise error(f"{self._endpoint} answered {status} for {what}", _retry_after(response))


def _source_file(sibling: _Sibling) -> SourceFile:
    if sibling.lfs is not None:
        return SourceFile(path=sibling.rfilename, size=sibling.lfs.size, content_id=f"lfs-sha256:{sibling.lfs.sha256}")
    if sibling.blob_id is None:
        raise SourceUnreachable(f"the hub lists {sibling.rfilename} without its content id")
    return SourceFile(path=sibling.rfilename, size=sibling.size or 0, content_id=f"git-blob:{sibling.blob_id}")


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > _BODY_LIMIT:
            raise SourceUnreachable(f"the answer of {response.url} is larger than {_BODY_LIMIT} bytes")
    return bytes(body)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    try:
        return float(min(max(0, int(response.headers["Retry-After"])), _LONGEST_PAUSE_SECONDS))
    except (KeyError, ValueError):  # absent, or a date
        return None
