"""Bounds what requests take before the scheduler counts them: bodies that come in, texts that are cut into tokens."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .api_error import overloaded

T = TypeVar("T")

_MOST = 64
_THREADS = 2
_RETRY_SECONDS = 1


class Preparation:
    """The preparations of one server. Belongs to its event loop."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._taken = 0
        self._threads = asyncio.Semaphore(_THREADS)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place among those that prepare. Raises ApiError (429) when there is none."""
        if self._taken >= self._most:
            raise overloaded(_RETRY_SECONDS)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Work of milliseconds, on a thread: other requests' tokens must not wait for it."""
        async with self._threads:
            return await asyncio.to_thread(work)
