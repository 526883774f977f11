"""Leads lives, several at a time, and compares each with an undisturbed one."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from faults.bed import Bed
from faults.life import Life, Outcome, living
from faults.lives import LIVES
from faults.schedule import Schedule, no_faults

# Most of a life is waiting: for retries, for slow answers, for rest.
AT_A_TIME = int(os.environ.get("AT_A_TIME", "6"))

tally: Counter[str] = Counter()
"""What has been tried: lives, starts of operators, and faults by sort."""

_undisturbed: dict[str, Outcome] = {}


async def undisturbed(bed: Bed, name: str) -> Outcome:
    """What a life leads to when nothing goes wrong. Led once."""
    if name not in _undisturbed:
        _undisturbed[name] = await lead(bed, name, no_faults(), None)
    return _undisturbed[name]


async def lead(
    bed: Bed,
    name: str,
    schedule: Schedule,
    expected: Outcome | Awaitable[Outcome] | None,
    *,
    beside: Callable[[Life], Awaitable[None]] | None = None,
    **arguments: Any,
) -> Outcome:
    """Lead a life to its end. `beside` goes on meanwhile."""
    if isinstance(expected, Awaitable):
        expected = await expected
    async with living(bed, schedule, **arguments) as life:
        meddling = asyncio.create_task(beside(life)) if beside is not None else None
        try:
            await LIVES[name](life)
        finally:
            if meddling is not None:
                meddling.cancel()
                await asyncio.wait({meddling})
                if not meddling.cancelled():
                    meddling.result()
        outcome = await life.outcome(expected)
        _count(life)
        return outcome


def _count(life: Life) -> None:
    tally["lives"] += 1
    tally["operator starts"] += sum(replica.starts for replica in life.replicas)
    tally.update(f"fault: {entry.rpartition(': ')[2]}" for entry in life.injected)


async def all_succeed(trials: Iterable[tuple[str, Callable[[], Awaitable[object]]]]) -> None:
    """Run trials, some at a time; fails with what each of them failed with."""
    turns = asyncio.Semaphore(AT_A_TIME)
    failures: list[str] = []

    async def run(what: str, trial: Callable[[], Awaitable[object]]) -> None:
        async with turns:
            try:
                await trial()
            except AssertionError as error:
                failures.append(f"=== {what}\n{error}")

    async with asyncio.TaskGroup() as group:
        for what, trial in trials:
            group.create_task(run(what, trial))
    assert not failures, f"{len(failures)} failed\n" + "\n".join(failures)


def seeds(few: int) -> range:
    """Seeds to try: `few` as a part of all tests, as many as are asked for otherwise."""
    first, count = int(os.environ.get("FIRST_SEED", "1")), int(os.environ.get("SEEDS", few))
    return range(first, first + count)
