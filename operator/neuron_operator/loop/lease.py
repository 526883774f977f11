"""Leadership by a `coordination.k8s.io` Lease: one replica writes, the others wait.

Times of expiry are this process's monotonic clock alone: another replica's clock is never compared with ours. A lease
of somebody else has expired when its record has not changed for its duration since we saw it first.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from neuron_operator.api.lease import LeaseRecord
from neuron_operator.errors import AlreadyExists, Conflict, NotLeader, OperatorError

DURATION_SECONDS = 15
_RENEW_SECONDS = 5.0
_GIVE_UP_SECONDS = 10.0
_RETRY_SECONDS = 2.0
_RENEWAL_RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


class LeaseStore(Protocol):
    """Where the record is kept; `kube.leases` fills it in."""

    async def read(self) -> LeaseRecord | None:
        """The record, or None when there is none."""

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Store the first record. Raises AlreadyExists."""

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        """Store the next record; puts a deleted one back. Raises Conflict when somebody else was faster."""


class LeadershipLost(Exception):
    """The lease could not be renewed in time. The process ends, and starts again as a standby."""


class LeaderLease:
    """This replica's view of the Lease.

    `identity` must be unique among replicas that run at the same time; the same pod's next container may share it, and
    then takes over at once.
    """

    def __init__(
        self,
        store: LeaseStore,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """`beat` is called with each attempt to take or renew the lease: a sign of life, leading or not."""
        self._store = store
        self._identity = identity
        self._clock = clock
        self._beat = beat
        self._record: LeaseRecord | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    @property
    def is_leading(self) -> bool:
        """Whether this replica may write now."""
        return self.remaining() > 0

    def remaining(self) -> float:
        """Seconds for which no other replica can have taken over; 0 when not leading."""
        if self._renewed_at is None:
            return 0.0
        return max(0.0, self._renewed_at + DURATION_SECONDS - self._clock())

    def fence(self, seconds: float) -> None:
        """Refuse a write that may take so many seconds. Raises NotLeader."""
        if self.remaining() <= seconds:
            raise NotLeader(f"the lease is held for {self.remaining():.1f} s more; the write may take {seconds:.1f} s")

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for leadership, then run `work` while renewing. Raises LeadershipLost; releases the lease at the end."""
        while not await self.try_acquire():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(_RETRY_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - no secret is made of it
        logger.info("leading as %s", self._identity)
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._keep(), name="lease")
                await work()
                renewing.cancel()
        finally:
            # Whoever ends the work may cancel again: when kopf ends, it cancels the workers, and the group then this.
            releasing = asyncio.create_task(self._release(), name="release")
            try:
                await asyncio.shield(releasing)
            except asyncio.CancelledError:
                await asyncio.wait({releasing})
                raise

    async def try_acquire(self) -> bool:
        """Take the lease if that is possible now."""
        self._beat()
        started = self._clock()
        try:
            found = await self._store.read()
            if found is None:
                if not self._may_create():
                    return False
                self._record = await self._store.create(self._next(None))
            else:
                self._see(found)
                if not self._may_take(found):
                    return False
                self._record = await self._store.replace(self._next(found))
        except (AlreadyExists, Conflict):
            return False
        except OperatorError as error:
            logger.warning("the lease cannot be taken: %s", error)
            return False
        # From before the request: the API server may have stored it any time since.
        self._renewed_at = started
        return True

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            await self._renew_in_time()

    async def _renew_in_time(self) -> None:
        """Renew, trying until the lease is so old that another replica may soon take it. Raises LeadershipLost."""
        left = self.remaining() - (DURATION_SECONDS - _GIVE_UP_SECONDS)
        try:
            async with asyncio.timeout(left):
                while not await self._renew():  # noqa: ASYNC110 - what is waited for is in another process
                    await asyncio.sleep(_RENEWAL_RETRY_SECONDS)
        except TimeoutError:
            # The workers must have stopped before the lease expires, and nothing of theirs may be written any more.
            self._renewed_at = None
            raise LeadershipLost(f"the lease was not renewed for {_GIVE_UP_SECONDS:.0f} s") from None

    async def _renew(self) -> bool:
        """Renew once; False when that may be tried again. Raises LeadershipLost when somebody else holds the lease."""
        assert self._record is not None  # noqa: S101 - only a leader renews
        self._beat()
        started = self._clock()
        try:
            self._record = await self._store.replace(self._next(self._record))
        except Conflict:
            return await self._look_again()
        except OperatorError as error:
            logger.warning("the lease was not renewed, trying again: %s", error)
            return False
        self._renewed_at = started
        return True

    async def _look_again(self) -> bool:
        """After a conflict: the answer to an own renewal was lost, somebody edited the Lease, or somebody took it."""
        try:
            found = await self._store.read()
        except OperatorError as error:
            logger.warning("the lease was not renewed, trying again: %s", error)
            return False
        if found is None:
            return False
        if found.holder != self._identity:
            self._renewed_at = None
            raise LeadershipLost(f"{found.holder or 'nobody'} holds the lease")
        self._record = found
        return False

    async def _release(self) -> None:
        if self._record is None or not self.is_leading:
            return
        self._renewed_at = None
        try:
            await self._store.replace(replace(self._next(self._record), holder=""))
        except OperatorError as error:
            logger.warning("the lease was not released and will expire: %s", error)

    def _see(self, found: LeaseRecord) -> None:
        if self._record is None or found.resource_version != self._record.resource_version:
            self._record, self._seen_at = found, self._clock()

    def _may_create(self) -> bool:
        if self._record is None:
            return True
        # Somebody deleted it. Who held it when we saw it last may have renewed it since, and may put it back.
        deleted = replace(self._record, resource_version="")
        self._see(deleted)
        return self._may_take(deleted)

    def _may_take(self, found: LeaseRecord) -> bool:
        if found.holder in ("", self._identity):
            return True
        return self._clock() - self._seen_at >= found.duration_seconds

    def _next(self, previous: LeaseRecord | None) -> LeaseRecord:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if previous is None:
            return LeaseRecord(self._identity, DURATION_SECONDS, now, now, 0, "")
        if previous.holder == self._identity:
            return replace(previous, renew_time=now, duration_seconds=DURATION_SECONDS)
        return LeaseRecord(
            self._identity, DURATION_SECONDS, now, now, previous.transitions + 1, previous.resource_version
        )
