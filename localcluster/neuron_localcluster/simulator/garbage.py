"""Deletes objects whose owners are gone, as the garbage collector of kube-controller-manager does.

Foreground deletion is answered too. Orphaning is not: an operator that orphans needs the real collector.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Sequence

import aiohttp

from neuron_localcluster.node.api import MERGE_PATCH, APIClient, APIError
from neuron_localcluster.node.reflector import Listener, Reflector
from neuron_localcluster.node.state import Manifest
from neuron_localcluster.simulator.resource import Resource

_FOREGROUND = "foregroundDeletion"
_GONE = (404, 409)
_RETRY_SECONDS = 0.2

_log = logging.getLogger(__name__)


class GarbageCollector:
    """Knows owners and dependents of the given resources; an owner of another resource never counts as gone."""

    def __init__(self, api: APIClient, resources: Sequence[Resource]) -> None:
        self._api = api
        self._resources = {(resource.api_version, resource.kind): resource for resource in resources}
        self._objects: dict[str, tuple[Resource, Manifest]] = {}
        self._dependents: defaultdict[str, set[str]] = defaultdict(set)
        self._suspects: asyncio.Queue[str] = asyncio.Queue()
        self.collected = 0
        """How many objects it has deleted."""

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            reflectors = [
                Reflector(self._api, resource.path(), self._taker(resource)) for resource in self._resources.values()
            ]
            for reflector in reflectors:
                group.create_task(reflector.run())
            for reflector in reflectors:
                await reflector.synced.wait()
            while True:
                uid = await self._suspects.get()
                try:
                    await self._judge(uid)
                except (APIError, aiohttp.ClientError, TimeoutError) as error:
                    _log.warning("collecting: %s", error)
                    await asyncio.sleep(_RETRY_SECONDS)
                    self._suspects.put_nowait(uid)

    def _taker(self, resource: Resource) -> Listener:
        def take(kind: str, item: Manifest) -> None:
            uid = item["metadata"]["uid"]
            owners = {reference["uid"] for reference in item["metadata"].get("ownerReferences") or []}
            if kind == "DELETED":
                self._objects.pop(uid, None)
                for owner in owners:
                    self._dependents[owner].discard(uid)
                    self._suspects.put_nowait(owner)  # it may wait in the foreground for this one
                for dependent in self._dependents.pop(uid, ()):
                    self._suspects.put_nowait(dependent)
                return
            self._objects[uid] = resource, item
            for owner in owners:
                self._dependents[owner].add(uid)
            if owners or _FOREGROUND in (item["metadata"].get("finalizers") or []):
                self._suspects.put_nowait(uid)

        return take

    async def _judge(self, uid: str) -> None:
        known = self._objects.get(uid)
        if known is None:
            return
        resource, item = known
        metadata = item["metadata"]
        finalizers = metadata.get("finalizers") or []
        if "deletionTimestamp" in metadata and _FOREGROUND in finalizers:
            await self._finish_foreground(resource, item, finalizers)
            return
        references = metadata.get("ownerReferences") or []
        if "deletionTimestamp" in metadata or not references:
            return
        for reference in references:
            if not await self._is_gone(reference, metadata["namespace"]):
                return
        await self._delete(resource, item)

    async def _is_gone(self, reference: Manifest, namespace: str) -> bool:
        owner = self._resources.get((reference["apiVersion"], reference["kind"]))
        if owner is None or reference["uid"] in self._objects:
            return False
        # The watch of owners may be behind that of dependents.
        live = await self._api.find(owner.path(namespace, reference["name"]))
        return live is None or live["metadata"]["uid"] != reference["uid"]

    async def _finish_foreground(self, resource: Resource, item: Manifest, finalizers: list[str]) -> None:
        metadata = item["metadata"]
        waiting = [self._objects[uid] for uid in self._dependents.get(metadata["uid"], ()) if uid in self._objects]
        for of, dependent in waiting:
            if "deletionTimestamp" not in dependent["metadata"]:
                await self._delete(of, dependent)
        if waiting:
            return
        left = [name for name in finalizers if name != _FOREGROUND]
        body = {"metadata": {"uid": metadata["uid"], "finalizers": left}}
        await self._unless_gone(
            self._api.patch(resource.path(metadata["namespace"], metadata["name"]), body, MERGE_PATCH)
        )

    async def _delete(self, resource: Resource, item: Manifest) -> None:
        metadata = item["metadata"]
        options = {
            "propagationPolicy": "Background",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": metadata["uid"]},
        }
        await self._unless_gone(self._api.delete(resource.path(metadata["namespace"], metadata["name"]), options))
        self.collected += 1

    async def _unless_gone(self, call: Awaitable[Manifest]) -> None:
        try:
            await call
        except APIError as error:
            if error.status not in _GONE:
                raise
