"""At most one replica leads, whatever happens to its renewals; and soon another one does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_operator.errors import AlreadyExists, Conflict, NotLeader, OperatorError, Transient
from neuron_operator.loop.lease import LeaderLease, LeadershipLost, LeaseRecord
from support.virtual_time import now, virtual_time

# A standby looks every 2 s, more or less a fifth.
_LOOK = 2.4


class _Server:
    """Keeps the one record, with the API server's rule about resourceVersion."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self._version = 0

    def store(self, record: LeaseRecord) -> LeaseRecord:
        self._version += 1
        self.record = replace(record, resource_version=str(self._version))
        return self.record

    @property
    def holder(self) -> str | None:
        return None if self.record is None else self.record.holder


class _Store:
    """One replica's way to the server. `fault` is asked before each call, with what happens if the call is lost."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.fault: Callable[[Callable[[], object]], object] = lambda _: None
        self.delay = 0.01
        self.calls = 0

    async def read(self) -> LeaseRecord | None:
        await self._travel(lambda: None)
        return self._server.record

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        def write() -> LeaseRecord:
            if self._server.record is not None:
                raise AlreadyExists
            return self._server.store(record)

        await self._travel(write)
        return write()

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        def write() -> LeaseRecord:
            current = self._server.record
            if current is not None and current.resource_version != record.resource_version:
                raise Conflict
            return self._server.store(record)

        await self._travel(write)
        return write()

    async def _travel(self, write: Callable[[], object]) -> None:
        self.calls += 1
        await asyncio.sleep(self.delay)
        self.fault(write)


class _Replica:
    """A replica that wants to lead. Its monotonic clock started at a time of its own."""

    def __init__(self, server: _Server, name: str, clock_offset: float = 0.0) -> None:
        self.store = _Store(server)
        self.beats = 0
        self.lease = LeaderLease(self.store, name, clock=lambda: now() + clock_offset, beat=self._beat)
        self._started = asyncio.Event()
        self.working_since: float | None = None
        self.stopped_at: float | None = None
        self.task = asyncio.create_task(self.lease.lead(self._work))

    def _beat(self) -> None:
        self.beats += 1

    async def _work(self) -> None:
        self.working_since = now()
        self._started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped_at = now()

    @property
    def is_working(self) -> bool:
        return self.working_since is not None and self.stopped_at is None

    async def until_working(self) -> float:
        """The time when it starts to work."""
        await self._started.wait()
        assert self.working_since is not None
        return self.working_since

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self.task

    async def lost(self) -> LeadershipLost:
        with pytest.raises(ExceptionGroup) as raised:
            await self.task
        (error,) = raised.value.exceptions
        assert isinstance(error, LeadershipLost)
        return error


def _refuse(_: Callable[[], object]) -> None:
    raise Transient("the API server is away")


def _lose_answer(write: Callable[[], object]) -> None:
    write()
    raise Transient("the answer was lost")


@virtual_time
async def test_the_first_replica_leads_and_renews_every_five_seconds() -> None:
    server = _Server()
    replica = _Replica(server, "a")
    await replica.until_working()
    first = server.record
    assert first is not None
    assert (first.holder, first.duration_seconds, first.transitions) == ("a", 15, 0)
    calls = replica.store.calls
    await asyncio.sleep(60)
    assert replica.store.calls - calls == pytest.approx(12, abs=1)
    assert server.record is not None
    assert (server.record.acquire_time, server.record.transitions) == (first.acquire_time, 0)
    assert replica.is_working
    await replica.stop()


@virtual_time
async def test_a_second_replica_waits_and_takes_over_soon_after_a_release() -> None:
    server = _Server()
    first = _Replica(server, "a")
    await first.until_working()
    second = _Replica(server, "b")
    await asyncio.sleep(100)
    assert not second.is_working
    await first.stop()
    assert server.holder == ""
    released = now()
    assert await second.until_working() - released <= _LOOK + 0.1
    assert server.record is not None
    assert (server.record.holder, server.record.transitions) == ("b", 1)
    await second.stop()


@virtual_time
async def test_a_leader_that_vanishes_is_followed_after_the_lease_has_run_out() -> None:
    server = _Server()
    first = _Replica(server, "a")
    await first.until_working()
    second = _Replica(server, "b")
    await asyncio.sleep(12)
    first.store.fault = _refuse  # even its release does not get through: as if the process had been killed
    await first.stop()
    stopped = now()
    assert 15 - 5 <= await second.until_working() - stopped <= 15 + 2 * _LOOK
    await second.stop()


@virtual_time
async def test_work_stops_well_before_the_lease_can_pass_to_another() -> None:
    server = _Server()
    first = _Replica(server, "a")
    await first.until_working()
    second = _Replica(server, "b")
    await asyncio.sleep(20)
    renewed = now() - (15 - first.lease.remaining())
    first.store.fault = _refuse
    error = await first.lost()
    assert "not renewed for 10 s" in str(error)
    assert first.stopped_at == pytest.approx(renewed + 10, abs=0.1)
    assert first.lease.remaining() == 0
    assert await second.until_working() >= renewed + 15
    await second.stop()


@virtual_time
async def test_a_renewal_that_gets_no_answer_does_not_outlast_the_lease() -> None:
    server = _Server()
    replica = _Replica(server, "a")
    await replica.until_working()
    renewed = now() - (15 - replica.lease.remaining())
    replica.store.delay = 10_000
    await replica.lost()
    assert replica.stopped_at == pytest.approx(renewed + 10, abs=0.1)


@virtual_time
async def test_a_renewal_that_fails_is_tried_again_and_costs_nothing() -> None:
    server = _Server()
    replica = _Replica(server, "a")
    await replica.until_working()
    for _ in range(10):
        replica.store.fault = _refuse
        await asyncio.sleep(3)
        replica.store.fault = lambda _: None
        await asyncio.sleep(7)
    assert replica.is_working
    await replica.stop()


@virtual_time
async def test_a_renewal_whose_answer_was_lost_is_recognized_as_an_own_one() -> None:
    server = _Server()
    replica = _Replica(server, "a")
    await replica.until_working()
    replica.store.fault = _lose_answer
    await asyncio.sleep(5.5)
    replica.store.fault = lambda _: None
    await asyncio.sleep(30)
    assert replica.is_working
    assert replica.lease.remaining() > 9
    await replica.stop()


@virtual_time
async def test_a_lease_that_another_holds_is_given_up_at_once() -> None:
    server = _Server()
    replica = _Replica(server, "a")
    await replica.until_working()
    assert server.record is not None
    server.store(replace(server.record, holder="b"))
    assert "b holds the lease" in str(await replica.lost())
    assert replica.stopped_at is not None
    assert replica.stopped_at - (replica.working_since or 0) < 6
    assert server.holder == "b", "the release must not touch another's lease"


@virtual_time
async def test_a_lease_that_was_deleted_is_put_back_before_another_takes_it() -> None:
    server = _Server()
    leader = _Replica(server, "a")
    await leader.until_working()
    standby = _Replica(server, "b")
    for _ in range(5):
        await asyncio.sleep(7)
        server.record = None
    await asyncio.sleep(20)
    assert server.holder == "a"
    assert leader.is_working
    assert not standby.is_working
    await leader.stop()
    await standby.stop()


@virtual_time
async def test_a_deleted_lease_whose_holder_is_gone_is_taken_when_it_must_have_run_out() -> None:
    server = _Server()
    leader = _Replica(server, "a")
    await leader.until_working()
    standby = _Replica(server, "b")
    await asyncio.sleep(11)
    leader.store.fault = _refuse
    await leader.stop()
    server.record = None
    stopped = now()
    assert 15 <= await standby.until_working() - stopped <= 15 + 2 * _LOOK
    await standby.stop()


@virtual_time
async def test_an_edit_by_hand_does_not_end_leadership() -> None:
    server = _Server()
    replica = _Replica(server, "a")
    await replica.until_working()
    assert server.record is not None
    server.store(server.record)
    await asyncio.sleep(30)
    assert replica.is_working
    await replica.stop()


@pytest.mark.parametrize("time", ["1999-01-01T00:00:00.000000Z", "2199-01-01T00:00:00.000000Z", ""])
@virtual_time
async def test_the_times_that_others_write_are_never_compared_with_ours(time: str) -> None:
    server = _Server()
    server.store(LeaseRecord("gone", 15, time, time, 4, ""))
    started = now()
    replica = _Replica(server, "a", clock_offset=86_400)
    assert 15 <= await replica.until_working() - started <= 15 + _LOOK
    assert server.record is not None
    assert server.record.transitions == 5
    await replica.stop()


@virtual_time
async def test_another_holders_own_duration_counts() -> None:
    server = _Server()
    server.store(LeaseRecord("patient", 60, "", "", 0, ""))
    started = now()
    replica = _Replica(server, "a")
    assert 60 <= await replica.until_working() - started <= 60 + _LOOK
    await replica.stop()


@virtual_time
async def test_the_next_container_of_the_same_pod_takes_over_at_once() -> None:
    server = _Server()
    server.store(LeaseRecord("a", 15, "", "", 3, ""))
    started = now()
    replica = _Replica(server, "a")
    assert await replica.until_working() - started < 0.5
    assert server.record is not None
    assert server.record.transitions == 3
    await replica.stop()


@virtual_time
async def test_the_lease_counts_from_before_the_request() -> None:
    replica = _Replica(_Server(), "a")
    replica.store.delay = 1.5
    started = now()
    working = await replica.until_working()
    assert replica.lease.remaining() == pytest.approx(15 - (working - started), abs=0.1)
    await asyncio.sleep(5 + 1.5 + 0.1)
    assert replica.lease.remaining() == pytest.approx(15 - 1.6), "the answer to a renewal has come just now"
    await replica.stop()


@virtual_time
async def test_the_fence_refuses_writes_that_the_lease_may_not_outlast() -> None:
    server = _Server()
    replica = _Replica(server, "a")
    with pytest.raises(NotLeader):
        replica.lease.fence(4)
    await replica.until_working()
    replica.lease.fence(4)
    with pytest.raises(NotLeader, match=r"held for 1\d\.\d s more; the write may take 16\.0 s"):
        replica.lease.fence(16)
    replica.store.delay = 10_000
    await asyncio.sleep(9)
    replica.lease.fence(4)
    await replica.lost()
    with pytest.raises(NotLeader):
        replica.lease.fence(0)


@virtual_time
async def test_the_lease_is_released_when_the_work_fails() -> None:
    server = _Server()
    lease = LeaderLease(_Store(server), "a", clock=now)

    async def work() -> None:
        raise NotLeader("no time left")

    with pytest.raises(ExceptionGroup) as raised:
        await lease.lead(work)
    assert raised.group_contains(NotLeader)
    assert server.holder == ""


@virtual_time
async def test_a_release_under_way_is_not_cut_off() -> None:
    server = _Server()
    replica = _Replica(server, "a")
    await replica.until_working()
    replica.store.delay = 1
    replica.task.cancel()
    await asyncio.sleep(0.5)
    assert server.holder == "a"

    await replica.stop()

    assert replica.task.cancelled()
    assert server.holder == ""


@virtual_time
async def test_a_standby_survives_an_api_server_that_is_away_and_gives_signs_of_life() -> None:
    replica = _Replica(_Server(), "a")
    replica.store.fault = _refuse
    await asyncio.sleep(100)
    assert not replica.is_working
    assert replica.beats >= 40
    replica.store.fault = lambda _: None
    returned = now()
    assert await replica.until_working() - returned <= _LOOK
    await replica.stop()


_FAULTS = st.sampled_from(["", "", "", "refuse", "lose answer", "slow", "very slow"])
# After the last fault: a very slow write ends, the lease that it wrote expires, and somebody takes it.
_QUIET = 90


@settings(max_examples=25, deadline=None)
@given(faults=st.lists(_FAULTS, min_size=20, max_size=60), kills=st.lists(st.integers(10, 150), max_size=3))
def test_never_do_two_replicas_lead(faults: list[str], kills: list[int]) -> None:
    _with_faults(faults, kills)


@virtual_time
async def _with_faults(faults: list[str], kills: list[int]) -> None:
    server = _Server()
    replicas: list[_Replica] = []
    upcoming = iter(faults)

    def add(name: str, offset: float) -> None:
        replica = _Replica(server, name, offset)

        def fault(write: Callable[[], object]) -> None:
            kind = next(upcoming, "")
            replica.store.delay = {"slow": 3.0, "very slow": 30.0}.get(kind, 0.01)
            if kind == "refuse":
                raise Transient("refused")
            if kind == "lose answer":
                with suppress(OperatorError):
                    write()
                raise Transient("lost")

        replica.store.fault = fault
        replicas.append(replica)

    numbers = itertools.count()
    for offset in [0.0, 5000.0, -300.0]:
        add(f"r{next(numbers)}", offset)
    faults_end = now() + 200
    kill_times = sorted(now() + kill for kill in kills)
    while now() < faults_end + _QUIET:
        await asyncio.sleep(0.5)
        if now() >= faults_end:
            upcoming = iter(())
        assert sum(replica.lease.is_leading for replica in replicas) <= 1
        working = [replica for replica in replicas if replica.is_working]
        assert len(working) <= 1
        if working and kill_times and now() >= kill_times[0]:
            kill_times.pop(0)
            working[0].store.fault = _refuse
            working[0].task.cancel()
        for replica in [replica for replica in replicas if replica.task.done()]:
            replicas.remove(replica)
            if not replica.task.cancelled():
                assert replica.task.exception() is not None
            add(f"r{next(numbers)}", replica.lease.remaining())
    assert any(replica.is_working for replica in replicas), "in the end somebody leads"
    for replica in replicas:
        await replica.stop()
