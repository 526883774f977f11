"""A work queue of keys with the semantics of client-go's.

A key that is added twice before it is taken is worked on once. A key that is added while a worker has it is worked on
again afterwards, and never by two workers at a time.
"""

import asyncio
import random
from collections import deque
from typing import Generic, TypeVar

K = TypeVar("K")

_FIRST_BACKOFF_SECONDS = 0.05
_LONGEST_BACKOFF_SECONDS = 300.0
_JITTER = 0.2


class QueueClosed(Exception):
    """The queue was closed; there is nothing more to take."""


class WorkQueue(Generic[K]):
    """Keys waiting for a worker. Bound to the running event loop; time is the loop's."""

    def __init__(self) -> None:
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._added_at: dict[K, float] = {}
        self._takers: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Have a key worked on as soon as a worker is free."""
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        self._added_at[key] = asyncio.get_running_loop().time()
        if key not in self._processing:
            self._make_ready(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have a key worked on in so many seconds, or earlier when an earlier time was asked for already."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._fire, key)

    def retry(self, key: K, *, at_least: float = 0.0) -> None:
        """Have a key worked on after a pause that doubles with each retry in a row; `at_least` is in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 32), _LONGEST_BACKOFF_SECONDS)
        jittered = pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret is made of it
        self.add_after(key, max(jittered, at_least))

    def forget(self, key: K) -> None:
        """Let the next retry start with the shortest pause again."""
        self._failures.pop(key, None)

    async def get(self) -> tuple[K, float]:
        """Take the next key, and the seconds that it waited. `done` must follow. Raises QueueClosed."""
        while not self._ready:
            if self._closed:
                raise QueueClosed
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                self._abandon(taker)
                raise
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key, asyncio.get_running_loop().time() - self._added_at.pop(key)

    def done(self, key: K) -> None:
        """Give a key back. If it was added meanwhile, it is next in line."""
        self._processing.discard(key)
        if key in self._dirty:
            self._make_ready(key)

    def close(self) -> None:
        """Take nothing more in, and let waiting workers go."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._takers:
            self._wake_one()

    def _fire(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    def _make_ready(self, key: K) -> None:
        self._ready.append(key)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def _abandon(self, taker: "asyncio.Future[None]") -> None:
        # A worker that is cancelled just as it was woken passes the wake-up on.
        if taker.done() and not taker.cancelled():
            self._wake_one()
        elif taker in self._takers:
            self._takers.remove(taker)
