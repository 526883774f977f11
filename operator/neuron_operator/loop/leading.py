"""What a leader does: first know everything, then work, and look now and then for what no event told."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection

from neuron_operator.api.objects import Key, Manifest
from neuron_operator.errors import OperatorError

from .controller import Controller
from .queue import WorkQueue
from .snapshot import Lister, Snapshot

_RELIST_SECONDS = 600.0
_RETRY_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Leading:
    """The leader's work on one queue."""

    def __init__(
        self,
        snapshot: Snapshot,
        queue: WorkQueue[Key],
        controller: Controller,
        *,
        lister: Lister,
        affected: Callable[[Manifest], Collection[Key]],
    ) -> None:
        self._snapshot = snapshot
        self._queue = queue
        self._controller = controller
        self._lister = lister
        self._affected = affected

    async def run(self) -> None:
        """Work until cancelled, or until this replica may not write any more (NotLeader)."""
        await self._relist()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._controller.run(), name="controller")
            group.create_task(self._relist_now_and_then(), name="relist")

    async def _relist_now_and_then(self) -> None:
        """Heal what watches can miss: objects that were deleted while a stream was broken."""
        while True:
            await asyncio.sleep(_RELIST_SECONDS * _jitter())
            await self._relist()

    async def _relist(self) -> None:
        """Compare with the API server, as soon as it lets itself be asked, and wake whom a difference concerns.

        What is in the snapshot without a difference was told by an event, which woke whom it concerns itself.
        """
        while True:
            try:
                changed = await self._snapshot.relist(self._lister)
                break
            except OperatorError as error:
                logger.warning("the cluster cannot be listed, trying again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS * _jitter())
        for manifest in changed:
            for key in self._affected(manifest):
                self._queue.add(key)


def _jitter() -> float:
    return random.uniform(0.8, 1.2)  # noqa: S311 - no secret is made of it
