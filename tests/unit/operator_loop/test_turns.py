"""Turns at an outside service that does not answer."""

from __future__ import annotations

import asyncio

import pytest

from neuron_operator.turns import NoTurn, Turns
from support.virtual_time import now, virtual_time


@virtual_time
async def test_who_finds_no_turn_is_let_go_after_two_seconds_and_a_free_one_is_taken() -> None:
    turns, answered, started = Turns(2), asyncio.Event(), now()

    async def call() -> None:
        async with turns.take():
            await answered.wait()

    calls = [asyncio.create_task(call()) for _ in range(2)]
    await asyncio.sleep(1)
    with pytest.raises(NoTurn):
        await call()
    assert now() == started + 3
    third = asyncio.create_task(call())
    await asyncio.sleep(1)
    answered.set()
    await asyncio.gather(*calls, third)
    assert now() == started + 4
