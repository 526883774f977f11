"""Requests that prepare are bounded, in number and in threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from neuron_runtime.serving.api_error import ApiError
from neuron_runtime.serving.preparation import Preparation


async def test_places_are_bounded_and_come_back() -> None:
    preparation = Preparation(most=1)
    with preparation.place():
        with pytest.raises(ApiError) as caught, preparation.place():
            pass
        assert caught.value.status == 429
        assert int(caught.value.headers["Retry-After"]) >= 1
    with preparation.place():
        pass


async def test_few_threads_work_at_once() -> None:
    preparation, lock, working, most = Preparation(), threading.Lock(), 0, 0
    both = threading.Barrier(2)

    def work() -> None:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        both.wait(10)
        with lock:
            working -= 1

    await asyncio.gather(*(preparation.run(work) for _ in range(6)))
    assert most == 2
