"""Writes a pod's status to the API server: the newest one, only when it differs, until it is taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from neuron_localcluster.node.api import STRATEGIC_MERGE_PATCH, APIClient, APIError
from neuron_localcluster.node.state import Manifest

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_FINAL = (404, 409, 422)


class StatusReporter:
    """Of one pod. `compute` gives the status as it is now; `written` is what the API server has."""

    def __init__(self, api: APIClient, path: str, uid: str, compute: Callable[[], Manifest], written: Manifest) -> None:
        self._api = api
        self._path = path
        self._uid = uid
        self._compute = compute
        self._written = _comparable({key: written.get(key) for key in compute()})
        self._dirty = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._closed = False

    def changed(self) -> None:
        """The status may differ now."""
        if not self._closed:
            self._settled.clear()
            self._dirty.set()

    def close(self) -> None:
        """Write nothing any more."""
        self._closed = True
        self._settled.set()

    async def settle(self) -> None:
        """Wait until the newest status is written, or can no longer be."""
        await self._settled.wait()

    async def run(self) -> None:
        """Never returns while the status can be written."""
        while not self._closed:
            await self._dirty.wait()
            self._dirty.clear()
            await self._write()
            if not self._dirty.is_set():
                self._settled.set()

    async def _write(self) -> None:
        status = self._compute()
        if self._closed or _comparable(status) == self._written:
            return
        try:
            body = {"metadata": {"uid": self._uid}, "status": _as_patch(status)}
            await self._api.patch(f"{self._path}/status", body, STRATEGIC_MERGE_PATCH)
            self._written = _comparable(status)
        except APIError as error:
            # Gone, or another pod by now.
            if error.status in _FINAL:
                _log.log(logging.ERROR if error.status == 422 else logging.DEBUG, "%s: %s", self._path, error)
                self.close()
                return
            await self._again(error)
        except (aiohttp.ClientError, TimeoutError) as error:
            await self._again(error)

    async def _again(self, error: Exception) -> None:
        _log.warning("status of %s: %r", self._path, error)
        self._dirty.set()
        await asyncio.sleep(_RETRY_SECONDS)


def _as_patch(status: Mapping[str, Any]) -> Manifest:
    # Lists of addresses are merged by address, which would keep an address of a former run.
    return {
        key: [{"$patch": "replace"}, *value] if key in ("podIPs", "hostIPs") else value for key, value in status.items()
    }


def _comparable(status: Mapping[str, Any]) -> Manifest:
    """What counts as a difference: neither null fields, nor conditions of others, nor what servers add."""
    own = {"Initialized", "ContainersReady", "Ready"}
    result = dict(status)
    conditions = [c for c in status.get("conditions") or () if c["type"] in own]
    keep = ("type", "status", "reason", "message")
    result["conditions"] = sorted(
        ([key, c[key]] for c in conditions for key in keep if c.get(key) is not None), key=str
    )
    return {key: value for key, value in result.items() if value is not None}
