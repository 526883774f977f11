"""A small client of the Kubernetes API: JSON in and out, one watch as a stream of events.

It knows paths and bodies, no kinds; what the answers mean is the callers' business.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from neuron_localcluster.node.kubeconfig import Access
from neuron_localcluster.node.state import Manifest

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

_TIMEOUT = aiohttp.ClientTimeout(total=30)
_WATCH_SECONDS = 290
# Longer than the server keeps a watch open, so that only a dead connection runs into it.
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_WATCH_SECONDS + 30)


class APIError(Exception):
    """The API server refused; `status` is the HTTP status, `reason` the API's (NotFound, Conflict, Expired, ...)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class APIClient:
    """Use as an asynchronous context manager. A lost connection raises aiohttp.ClientError or TimeoutError."""

    def __init__(self, access: Access) -> None:
        self.server = access.server
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {
            "Accept": "application/json",
            "User-Agent": "neuron-localcluster-node",
            "Authorization": f"Bearer {self._access.token}",
        }
        connector = aiohttp.TCPConnector(ssl=self._access.ssl, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connected.close()

    async def get(self, path: str) -> Manifest:
        return await self._call("GET", path)

    async def find(self, path: str) -> Manifest | None:
        """The object, None when it does not exist."""
        try:
            return await self.get(path)
        except APIError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, path: str, parameters: Mapping[str, str] | None = None) -> tuple[list[Manifest], str]:
        """All items and the resource version to watch from."""
        answer = await self._call("GET", path, parameters=parameters)
        return answer.get("items") or [], answer["metadata"]["resourceVersion"]

    async def post(self, path: str, body: Manifest) -> Manifest:
        return await self._call("POST", path, body)

    async def patch(self, path: str, body: Manifest, content_type: str) -> Manifest:
        return await self._call("PATCH", path, body, content_type)

    async def delete(self, path: str, options: Manifest) -> Manifest:
        return await self._call("DELETE", path, options)

    async def watch(
        self, path: str, resource_version: str, parameters: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """(type, object) of each event, bookmarks included, until the server ends the watch.

        Raises APIError with status 410 when the resource version is too old to go on from.
        """
        query = {
            **(parameters or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        url = self.server + path
        async with self._connected.get(url, params=query, timeout=_WATCH_TIMEOUT) as response:
            if response.status >= 400:
                raise _refusal(response.status, await response.read())
            async for line in _lines(response.content):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise APIError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                yield event["type"], event["object"]

    @property
    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("enter the client's context first")
        return self._session

    async def _call(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        content_type: str = "application/json",
        parameters: Mapping[str, str] | None = None,
    ) -> Manifest:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": content_type}
        url = self.server + path
        async with self._connected.request(method, url, params=parameters, data=data, headers=headers) as response:
            content = await response.read()
            if response.status >= 400:
                raise _refusal(response.status, content)
            answer: Manifest = json.loads(content)
            return answer


def _refusal(status: int, content: bytes) -> APIError:
    try:
        answer: dict[str, Any] = json.loads(content)
        return APIError(status, answer.get("reason", ""), answer.get("message", ""))
    except (json.JSONDecodeError, AttributeError):
        return APIError(status, "", content.decode(errors="replace")[:500])


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # readline() refuses lines longer than its buffer, and an object may have megabytes.
    rest = b""
    async for chunk in stream.iter_any():
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if line.strip():
                yield line
