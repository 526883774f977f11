"""The work queue, example by example; `test_queue_machine.py` looks for what the examples miss."""

import asyncio

import pytest

from neuron_operator.loop.queue import QueueClosed, WorkQueue
from support.virtual_time import now, virtual_time


async def _take(queue: WorkQueue[str]) -> str:
    return (await queue.get())[0]


async def _time_until_taken(queue: WorkQueue[str]) -> float:
    before = now()
    queue.done(await _take(queue))
    return now() - before


@virtual_time
async def test_a_key_added_twice_is_taken_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await _take(queue), await _take(queue)] == ["a", "b"]
    assert len(queue) == 0


@virtual_time
async def test_a_key_added_while_it_is_worked_on_is_taken_again_after_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await _take(queue) == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert len(queue) == 1
    assert await _take(queue) == "a"
    queue.done("a")
    assert len(queue) == 0


@virtual_time
async def test_get_tells_how_long_a_key_has_waited_since_it_was_added_first() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await asyncio.sleep(3)
    queue.add("a")
    await asyncio.sleep(4)
    assert await queue.get() == ("a", pytest.approx(7))


@virtual_time
async def test_a_delayed_key_comes_at_the_earliest_time_asked_for() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 30)
    queue.add_after("a", 10)
    queue.add_after("a", 20)
    assert await _time_until_taken(queue) == pytest.approx(10)
    await asyncio.sleep(100)
    assert len(queue) == 0


@virtual_time
async def test_an_event_does_not_wait_for_a_delay() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 600)
    queue.add("a")
    assert await _time_until_taken(queue) == 0


@virtual_time
async def test_no_delay_means_now() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0)
    assert len(queue) == 1


@virtual_time
async def test_retries_in_a_row_wait_twice_as_long_each_up_to_five_minutes() -> None:
    queue: WorkQueue[str] = WorkQueue()
    pauses = []
    for _ in range(20):
        queue.retry("a")
        pauses.append(await _time_until_taken(queue))
    assert pauses[0] == pytest.approx(0.05, rel=0.2)
    for number, pause in enumerate(pauses):
        assert pause == pytest.approx(min(0.05 * 2**number, 300), rel=0.2)
    assert len(set(pauses[-5:])) == 5, "without jitter, keys that fail together stay together"


@virtual_time
async def test_a_retry_waits_at_least_as_long_as_the_other_side_asked_for() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.retry("a", at_least=7)
    assert await _time_until_taken(queue) == pytest.approx(7)


@virtual_time
async def test_forget_starts_the_pauses_anew_for_this_key_alone() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b"):
        for _ in range(8):
            queue.retry(key)
            await _time_until_taken(queue)
    queue.forget("a")
    queue.retry("a")
    assert await _time_until_taken(queue) < 0.1
    queue.retry("b")
    assert await _time_until_taken(queue) > 5


@virtual_time
async def test_a_cancelled_worker_does_not_take_the_wake_up_with_it() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = (asyncio.create_task(_take(queue)) for _ in range(2))
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await second == "a"
    assert first.cancelled()


@virtual_time
async def test_close_lets_workers_finish_what_is_there_and_go() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add_after("later", 5)
    queue.close()
    queue.add("b")
    queue.add_after("c", 1)
    assert await _take(queue) == "a"
    with pytest.raises(QueueClosed):
        await queue.get()


@virtual_time
async def test_close_wakes_workers_that_wait() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = [asyncio.create_task(_take(queue)) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [QueueClosed] * 3
