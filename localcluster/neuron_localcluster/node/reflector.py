"""Keeps up with all objects of one kind: list, watch from there, list again when the watch cannot go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp

from neuron_localcluster.node.api import APIClient, APIError
from neuron_localcluster.node.state import Manifest

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_GONE = 410

Listener = Callable[[str, Manifest], None]


class Reflector:
    """Calls `listener` with ADDED, MODIFIED or DELETED and the object, for every change it sees or infers.

    `synced` is set once the first list has been handed over.
    """

    def __init__(
        self, api: APIClient, path: str, listener: Listener, parameters: Mapping[str, str] | None = None
    ) -> None:
        self.synced = asyncio.Event()
        self._api = api
        self._path = path
        self._listener = listener
        self._parameters = parameters or {}
        self._known: dict[str, Manifest] = {}
        self._version = ""

    async def run(self) -> None:
        """Never returns; an API server that is away is asked again every second."""
        while True:
            try:
                if not self._version:
                    await self._relist()
                await self._watch()
            except APIError as error:
                if error.status == _GONE:
                    self._version = ""
                    continue
                _log.warning("watching %s: %s", self._path, error)
                self._version = ""
                await asyncio.sleep(_RETRY_SECONDS)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                _log.warning("watching %s: %r", self._path, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _relist(self) -> None:
        items, version = await self._api.list(self._path, self._parameters)
        present = {item["metadata"]["uid"] for item in items}
        for uid in [uid for uid in self._known if uid not in present]:
            self._listener("DELETED", self._known.pop(uid))
        for item in items:
            self._take("MODIFIED" if item["metadata"]["uid"] in self._known else "ADDED", item)
        self._version = version
        self.synced.set()

    async def _watch(self) -> None:
        async for kind, item in self._api.watch(self._path, self._version, self._parameters):
            self._version = item["metadata"]["resourceVersion"]
            if kind != "BOOKMARK":
                self._take(kind, item)

    def _take(self, kind: str, item: Manifest) -> None:
        uid = item["metadata"]["uid"]
        if kind == "DELETED":
            self._known.pop(uid, None)
        else:
            self._known[uid] = item
        self._listener(kind, item)
