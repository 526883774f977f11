"""Turns at an outside service: a slow one must not keep all workers waiting, which others need."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PATIENCE_SECONDS = 2.0


class NoTurn(Exception):
    """All turns are taken, and none came free within two seconds."""


class Turns:
    """So many calls at the same time."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Hold one of the turns inside the context. Raises NoTurn."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._free.acquire()
        except TimeoutError as error:
            raise NoTurn from error
        try:
            yield
        finally:
            self._free.release()
