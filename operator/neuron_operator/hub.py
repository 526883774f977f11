"""Anonymous metadata of a Hugging Face hub: the commit behind a revision, the files at it, and `config.json`.

The operator downloads no weights and holds no token. Repositories that need one are not read here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from neuron_operator.errors import OperatorError
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.source import SourceFile, source_digest, taken_files

_TIMEOUT = aiohttp.ClientTimeout(total=10)
# The listing of a repository with thousands of files stays below this; a hostile one must not fill our memory.
_BODY_LIMIT = 8 * 1024 * 1024


class SourceNotFound(OperatorError):
    """No such repository, or no such revision, for an anonymous reader."""


class SourceAccessDenied(OperatorError):
    """The repository is gated or private."""


class SourceUnreachable(OperatorError):
    """The hub did not answer as a hub does. `after` is the wait in seconds that it asked for, if it did."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class SourceRateLimited(SourceUnreachable):
    """The hub answers, but not to us now (429)."""


@dataclass(frozen=True)
class HubSource:
    """A repository at one commit."""

    repo: str
    commit: str
    files: tuple[SourceFile, ...]
    config: Mapping[str, Any]

    @property
    def digest(self) -> Digest:
        """Digest of the files that are taken."""
        return source_digest(self.files)

    @property
    def size_bytes(self) -> int:
        """Bytes of the files that are taken."""
        return sum(file.size for file in taken_files(self.files))


class HuggingFaceHub:
    """A hub at one endpoint, read anonymously."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint.rstrip("/")

    async def resolve(self, repo: str, revision: str) -> HubSource:
        """Resolve a revision to its commit. Raises SourceNotFound, SourceAccessDenied or SourceUnreachable."""
        what = f"{repo} at revision {revision}"
        path = f"/api/models/{quote(repo)}/revision/{quote(revision, safe='')}"
        info = await self._get_json(path, what, {"blobs": "true"})
        commit = str(info["sha"])
        files = tuple(_source_file(sibling) for sibling in info.get("siblings") or [])
        if not any(file.path == "config.json" for file in files):
            raise SourceNotFound(f"{what} on {self._endpoint} has no config.json, so it is not a transformers model")
        config = await self._get_json(f"/{quote(repo)}/resolve/{commit}/config.json", f"config.json of {what}", {})
        return HubSource(repo=repo, commit=commit, files=files, config=config)

    async def _get_json(self, path: str, what: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            async with self._session.get(f"{self._endpoint}{path}", params=query, timeout=_TIMEOUT) as response:
                self._check(response, what)
                body = await _read_bounded(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SourceUnreachable(f"{self._endpoint} cannot be reached: {error or type(error).__name__}") from error
        document = _parse(body)
        if not isinstance(document, dict):
            raise SourceUnreachable(f"{self._endpoint} answered something else than a JSON object for {what}")
        return document

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
            raise SourceAccessDenied(f"{what} on {self._endpoint} is {kind}; it cannot be read anonymously")
        error = SourceRateLimited if status == 429 else SourceUnreachable
        raise error(f"{self._endpoint} answered {status} for {what}", _retry_after(response))


def _source_file(sibling: Mapping[str, Any]) -> SourceFile:
    lfs = sibling.get("lfs")
    if lfs:
        return SourceFile(path=sibling["rfilename"], size=lfs["size"], content_id=f"lfs-sha256:{lfs['sha256']}")
    return SourceFile(
        path=sibling["rfilename"], size=sibling.get("size") or 0, content_id=f"git-blob:{sibling['blobId']}"
    )


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
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None
