"""Takes keys from the queue and reconciles them; what follows an outcome or an error is decided here alone."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from neuron_operator.api.objects import Key
from neuron_operator.errors import AlreadyExists, Conflict, NamespaceEnding, NotLeader, Rejected, Transient

from .queue import QueueClosed, WorkQueue

_REJECTED_PAUSE_SECONDS = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """Nothing to do until an event comes."""


@dataclass(frozen=True)
class Requeue:
    """Look again in `after` seconds, unless an event comes first."""

    after: float


Outcome = Done | Requeue


class Instruments(Protocol):
    """What is measured; `telemetry.metrics` fills it in."""

    def taken(self, waited: float) -> None:
        """A key was taken from the queue after `waited` seconds."""

    def reconciled(self, result: str, seconds: float) -> None:
        """A reconcile ended: success, requeue, conflict, transient, rejected or error."""


class Controller:
    """Workers on one queue."""

    def __init__(
        self,
        queue: WorkQueue[Key],
        reconcile: Callable[[Key], Awaitable[Outcome]],
        *,
        workers: int,
        timeout: float,
        instruments: Instruments,
        mark: Callable[[Key], AbstractContextManager[None]],
    ) -> None:
        """`timeout` is in seconds. `mark` marks what is logged inside its context with the key."""
        self._queue = queue
        self._reconcile = reconcile
        self._workers = workers
        self._timeout = timeout
        self._instruments = instruments
        self._mark = mark
        self._started: dict[Key, float] = {}

    def is_stuck(self) -> bool:
        """Whether a reconcile goes on long after its timeout: it does not let itself be cancelled."""
        oldest = min(self._started.values(), default=None)
        return oldest is not None and time.monotonic() - oldest > 2 * self._timeout

    async def run(self) -> None:
        """Work until cancelled, until the queue is closed, or until this replica may not write any more (NotLeader)."""
        async with asyncio.TaskGroup() as workers:
            for number in range(self._workers):
                workers.create_task(self._work(), name=f"worker-{number}")

    async def _work(self) -> None:
        while True:
            try:
                key, waited = await self._queue.get()
            except QueueClosed:
                return
            self._instruments.taken(waited)
            self._started[key] = started = time.monotonic()
            try:
                with self._mark(key):
                    result = await self._reconcile_one(key)
            finally:
                del self._started[key]
                self._queue.done(key)
            self._instruments.reconciled(result, time.monotonic() - started)

    async def _reconcile_one(self, key: Key) -> str:
        try:
            async with asyncio.timeout(self._timeout):
                outcome = await self._reconcile(key)
        except NotLeader:
            raise
        except (AlreadyExists, Conflict):
            self._queue.retry(key)
            return "conflict"
        except Transient as error:
            logger.warning("will try again: %s", error)
            self._queue.retry(key, at_least=error.after or 0.0)
            return "transient"
        except (NamespaceEnding, Rejected) as error:
            logger.warning("the API server refuses: %s", error)
            self._queue.retry(key, at_least=_REJECTED_PAUSE_SECONDS)
            return "rejected"
        except TimeoutError:
            logger.warning("not reconciled within %.0f s; will try again", self._timeout)
            self._queue.retry(key)
            return "transient"
        except Exception:
            logger.exception("unexpected error; will try again")
            self._queue.retry(key)
            return "error"
        self._queue.forget(key)
        if isinstance(outcome, Requeue):
            self._queue.add_after(key, outcome.after)
            return "requeue"
        return "success"
