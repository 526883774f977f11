"""What follows each outcome and each error of a reconcile, and how workers share the queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from neuron_operator.api.objects import Key
from neuron_operator.errors import AlreadyExists, Conflict, NamespaceEnding, NotLeader, Rejected, Transient
from neuron_operator.loop.controller import Controller, Done, Outcome, Requeue
from neuron_operator.loop.queue import WorkQueue
from support.virtual_time import now, virtual_time

_KEY = Key("ml", "llama")
_TIMEOUT = 60.0


class _Instruments:
    def __init__(self) -> None:
        self.results: list[str] = []
        self.waits: list[float] = []
        self.marked: list[Key] = []

    def taken(self, waited: float) -> None:
        self.waits.append(waited)

    def reconciled(self, result: str, seconds: float) -> None:
        self.results.append(result)

    @contextmanager
    def mark(self, key: Key) -> Iterator[None]:
        self.marked.append(key)
        yield


class _Bench:
    """A controller whose reconciles do what the test says; `times` are the starts of reconciles from the first on."""

    def __init__(self, reconcile: Callable[[Key], Awaitable[Outcome]], workers: int = 1) -> None:
        self.queue: WorkQueue[Key] = WorkQueue()
        self.instruments = _Instruments()
        self.times: list[float] = []
        self._reconcile = reconcile
        self.controller = Controller(
            self.queue,
            self._timed,
            workers=workers,
            timeout=_TIMEOUT,
            instruments=self.instruments,
            mark=self.instruments.mark,
        )

    async def _timed(self, key: Key) -> Outcome:
        self.times.append(now())
        return await self._reconcile(key)

    async def run(self, seconds: float, *keys: Key) -> None:
        for key in keys:
            self.queue.add(key)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.controller.run()


def _first(answer: Outcome | Exception) -> Callable[[Key], Awaitable[Outcome]]:
    """A reconcile that ends so the first time, and well ever after."""
    answers = [answer]

    async def reconcile(_: Key) -> Outcome:
        current = answers.pop() if answers else Done()
        if isinstance(current, Exception):
            raise current
        return current

    return reconcile


_NEVER = None


@pytest.mark.parametrize(
    ("answer", "result", "pause"),
    [
        (Done(), "success", _NEVER),
        (Requeue(30), "requeue", 30),
        (Conflict("409"), "conflict", 0.05),
        (Transient("503"), "transient", 0.05),
        (Transient("429", after=7), "transient", 7),
        (Transient("429", after=0), "transient", 0.05),
        (Rejected("422", 422), "rejected", 60),
        (TimeoutError(), "transient", 0.05),
        (AlreadyExists("409"), "conflict", 0.05),
        (NamespaceEnding("403"), "rejected", 60),
        (RuntimeError("bug"), "error", 0.05),
        (ExceptionGroup("two", [ValueError(), KeyError()]), "error", 0.05),
    ],
    ids=lambda value: repr(value) if not isinstance(value, str) else value,
)
@virtual_time
async def test_what_follows(answer: Outcome | Exception, result: str, pause: float | None) -> None:
    bench = _Bench(_first(answer))
    await bench.run(1000, _KEY)
    if pause is _NEVER:
        assert bench.instruments.results == [result]
        return
    assert bench.instruments.results == [result, "success"]
    assert bench.times[1] - bench.times[0] == pytest.approx(pause, rel=0.2)


@virtual_time
async def test_not_leading_any_more_ends_all_workers() -> None:
    async def reconcile(key: Key) -> Outcome:
        if key == _KEY:
            raise NotLeader
        await asyncio.sleep(50)
        return Done()

    bench = _Bench(reconcile, workers=2)
    bench.queue.add(Key("ml", "other"))
    bench.queue.add(_KEY)
    with pytest.raises(ExceptionGroup) as raised:
        await bench.controller.run()
    assert raised.group_contains(NotLeader)
    assert bench.instruments.results == []


@virtual_time
async def test_failures_in_a_row_wait_longer_and_success_starts_anew() -> None:
    answers: list[Exception | None] = [Conflict()] * 5 + [None, Conflict(), None]

    async def reconcile(_: Key) -> Outcome:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        return Done()

    bench = _Bench(reconcile)
    await bench.run(100, _KEY)
    pauses = [after - before for before, after in zip(bench.times, bench.times[1:], strict=False)]
    assert pauses == [pytest.approx(0.05 * 2**number, rel=0.2) for number in range(5)]
    await bench.run(100, _KEY)
    assert bench.times[-1] - bench.times[-2] == pytest.approx(0.05, rel=0.2)


@virtual_time
async def test_an_event_comes_before_the_requeue() -> None:
    bench = _Bench(_first(Requeue(600)))
    asyncio.get_running_loop().call_later(3, bench.queue.add, _KEY)
    await bench.run(10, _KEY)
    assert bench.times[1] - bench.times[0] == pytest.approx(3)


@virtual_time
async def test_a_reconcile_that_hangs_is_cancelled_and_tried_again() -> None:
    cancelled: list[float] = []

    async def reconcile(_: Key) -> Outcome:
        if cancelled:
            return Done()
        try:
            await asyncio.sleep(10_000)
        finally:
            cancelled.append(now())
        return Done()

    bench = _Bench(reconcile)
    await bench.run(1000, _KEY)
    assert cancelled == [pytest.approx(bench.times[0] + _TIMEOUT)]
    assert bench.instruments.results == ["transient", "success"]


@virtual_time
async def test_two_workers_never_have_one_key_and_one_slow_key_holds_nobody_up() -> None:
    slow, running, most = Key("ml", "slow"), set[Key](), 0

    async def reconcile(key: Key) -> Outcome:
        nonlocal most
        assert key not in running
        running.add(key)
        most = max(most, len(running))
        bench.queue.add(slow)
        await asyncio.sleep(20 if key == slow else 1)
        running.remove(key)
        return Done()

    bench = _Bench(reconcile, workers=3)
    await bench.run(15, slow, *(Key("ml", f"m{number}") for number in range(20)))
    assert most == 3
    assert bench.instruments.results == ["success"] * 20


@virtual_time
async def test_an_unexpected_error_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    bench = _Bench(_first(RuntimeError("bug")))
    await bench.run(10, _KEY)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert bench.instruments.marked[0] == _KEY


@virtual_time
async def test_a_conflict_is_nobodys_error_and_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    await _Bench(_first(Conflict())).run(10, _KEY)
    assert not [record for record in caplog.records if record.name.startswith("neuron_operator")]


@virtual_time
async def test_workers_go_when_the_queue_is_closed() -> None:
    bench = _Bench(_first(Done()))
    bench.queue.add(_KEY)
    bench.queue.close()
    await bench.controller.run()
    assert bench.instruments.results == ["success"]


@virtual_time
async def test_a_reconcile_that_cannot_be_cancelled_counts_as_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", now)
    release = asyncio.Event()

    async def reconcile(_: Key) -> Outcome:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return Done()

    bench = _Bench(reconcile)
    bench.queue.add(_KEY)
    running = asyncio.create_task(bench.controller.run())
    await asyncio.sleep(1.9 * _TIMEOUT)
    assert not bench.controller.is_stuck()
    await asyncio.sleep(0.2 * _TIMEOUT)
    assert bench.controller.is_stuck()
    release.set()
    await asyncio.sleep(1)
    assert not bench.controller.is_stuck()
    running.cancel()
    await asyncio.wait({running})
