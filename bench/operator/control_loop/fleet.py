"""Creates models, edits them, and knows which are ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from control_loop import objects
from neuron_localcluster.node.api import MERGE_PATCH, APIClient
from neuron_localcluster.node.reflector import Reflector

_CONCURRENT_REQUESTS = 16


class Fleet:
    """All models of a control plane. `watch` must run."""

    def __init__(self, api: APIClient) -> None:
        self._api = api
        self._ready: set[str] = set()
        self._changed = asyncio.Condition()
        self._reflector = Reflector(api, objects.NEURON_MODELS.path(), self._take)

    async def watch(self) -> None:
        """Never returns."""
        await self._reflector.run()

    async def create(self, models: Sequence[dict[str, Any]], rate: float | None = None) -> float:
        """Create models, so many in a second, or as fast as the API server takes them; returns when it began."""
        began = time.monotonic()
        turns = asyncio.Semaphore(_CONCURRENT_REQUESTS)

        async def create(number: int, model: dict[str, Any]) -> None:
            if rate is not None:
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            async with turns:
                await self._api.post(objects.NEURON_MODELS.path(model["metadata"]["namespace"]), model)

        async with asyncio.TaskGroup() as group:
            for number, model in enumerate(models):
                group.create_task(create(number, model))
        return began

    async def edit(self, models: Sequence[dict[str, Any]], spec: dict[str, Any], rate: float) -> None:
        """Merge into the specs of models, so many in a second."""
        for model in models:
            metadata = model["metadata"]
            path = objects.NEURON_MODELS.path(metadata["namespace"], metadata["name"])
            await self._api.patch(path, {"spec": spec}, MERGE_PATCH)
            await asyncio.sleep(1 / rate)

    async def ready(self, models: Sequence[dict[str, Any]], longest: float) -> float:
        """Wait until all of them are ready; returns when that was, on the monotonic clock."""
        names = {model["metadata"]["name"] for model in models}
        async with self._changed:
            try:
                async with asyncio.timeout(longest):
                    await self._changed.wait_for(lambda: names <= self._ready)
            except TimeoutError:
                missing = sorted(names - self._ready)
                raise TimeoutError(f"{len(missing)} models are not ready, such as {missing[:3]}") from None
        return time.monotonic()

    def _take(self, event: str, model: dict[str, Any]) -> None:
        name = model["metadata"]["name"]
        if event == "DELETED" or not _is_ready(model):
            self._ready.discard(name)
            return
        if name not in self._ready:
            self._ready.add(name)
            self._tell_task = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _is_ready(model: dict[str, Any]) -> bool:
    status = model.get("status") or {}
    seen = status.get("observedGeneration") == model["metadata"]["generation"]
    conditions = status.get("conditions") or []
    return seen and any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)
