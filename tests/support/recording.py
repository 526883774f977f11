"""What an operator under test has written and told, and waiting for what others do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from neuron_operator.api.objects import Key, Kind, Manifest
from neuron_operator.kube.gateway import Gateway

_DEADLINE_SECONDS = 60.0

_Found = TypeVar("_Found")


async def eventually(what: str, look: Callable[[], Awaitable[_Found | None]]) -> _Found:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while (found := await look()) is None:
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {_DEADLINE_SECONDS} s")
        await asyncio.sleep(0.05)
    return found


class CountingGateway:
    """The real gateway, with a list of what was written through it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.writes: list[str] = []
        self.before_create: Callable[[Manifest], Awaitable[None]] | None = None
        self.before_status: Callable[[Manifest], None] | None = None

    async def get(self, kind: Kind, key: Key) -> Manifest | None:
        return await self._gateway.get(kind, key)

    async def create(self, manifest: Manifest) -> Manifest:
        if self.before_create is not None:
            await self.before_create(manifest)
        self.writes.append(f"create {manifest['kind']}")
        return await self._gateway.create(manifest)

    async def apply(self, manifest: Manifest) -> Manifest:
        self.writes.append(f"apply {manifest['kind']}")
        return await self._gateway.apply(manifest)

    async def merge(self, live: Manifest, changes: Manifest) -> Manifest:
        self.writes.append(f"merge {live['kind']}")
        return await self._gateway.merge(live, changes)

    async def replace_status(self, manifest: Manifest) -> Manifest:
        if self.before_status is not None:
            self.before_status(manifest)
        written = await self._gateway.replace_status(manifest)
        self.writes.append("status")
        return written

    async def delete(self, kind: Kind, key: Key, *, uid: str) -> Manifest | None:
        self.writes.append(f"delete {kind.name}")
        return await self._gateway.delete(kind, key, uid=uid)


class Events:
    """Keeps what was recorded as events."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, str]] = []

    async def record(self, regarding: Manifest, type: str, reason: str, note: str) -> None:
        self.recorded.append((type, reason))
