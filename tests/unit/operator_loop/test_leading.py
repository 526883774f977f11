"""A leader knows everything before it works, and finds what no event told."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import pytest

from neuron_operator.api.objects import JOB, NEURON_MODEL, Key, Kind, Manifest, key_of, kind_of, labels_of
from neuron_operator.errors import Transient
from neuron_operator.loop.controller import Controller, Done, Outcome
from neuron_operator.loop.leading import Leading
from neuron_operator.loop.queue import WorkQueue
from neuron_operator.loop.snapshot import Snapshot
from support.virtual_time import now, virtual_time


class _Instruments:
    def taken(self, waited: float) -> None:
        """Not of interest here."""

    def reconciled(self, result: str, seconds: float) -> None:
        """Not of interest here."""


def _object(kind: Kind, name: str, version: int, model: str = "") -> Manifest:
    metadata = {"name": name, "namespace": "ml", "uid": f"{kind.name}-{name}", "resourceVersion": str(version)}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": metadata | ({"labels": {"model": model}} if model else {}),
    }


def _affected(manifest: Manifest) -> list[Key]:
    return [key_of(manifest) if kind_of(manifest) == NEURON_MODEL else Key("ml", labels_of(manifest)["model"])]


class _Bench:
    """A leader of a cluster whose objects the test changes. `log` is what it did, and when."""

    def __init__(self) -> None:
        self.objects: dict[Kind, list[Manifest]] = {NEURON_MODEL: [], JOB: []}
        self.refusing = 0
        self.log: list[tuple[str, float]] = []
        self.snapshot = Snapshot([NEURON_MODEL, JOB], [])
        self.queue: WorkQueue[Key] = WorkQueue()
        controller = Controller(
            self.queue,
            self._reconcile,
            workers=2,
            timeout=60,
            instruments=_Instruments(),
            mark=lambda _: nullcontext(),
        )
        self._leading = Leading(self.snapshot, self.queue, controller, lister=self._list, affected=_affected)

    async def _list(self, kind: Kind) -> list[Manifest]:
        await asyncio.sleep(1)
        self.log.append((f"LIST {kind.plural}", now()))
        if self.refusing:
            self.refusing -= 1
            raise Transient("503")
        return list(self.objects[kind])

    async def _reconcile(self, key: Key) -> Outcome:
        self.log.append((key.name, now()))
        return Done()

    async def run(self, seconds: float) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._leading.run()

    def did(self) -> list[str]:
        did = [what for what, _ in self.log]
        self.log.clear()
        return did


_LISTS = ["LIST neuronmodels", "LIST jobs"]


@virtual_time
async def test_everything_is_listed_before_any_worker_runs() -> None:
    bench = _Bench()
    bench.queue.add(Key("ml", "told-by-an-event"))
    bench.objects[NEURON_MODEL] = [_object(NEURON_MODEL, "a", 1), _object(NEURON_MODEL, "b", 2)]
    await bench.run(10)
    assert bench.did() == [*_LISTS, "told-by-an-event", "a", "b"]
    assert bench.snapshot.get(NEURON_MODEL, Key("ml", "a")) is not None


@virtual_time
async def test_what_was_told_to_the_standby_is_reconciled_once() -> None:
    bench = _Bench()
    model = _object(NEURON_MODEL, "a", 1)
    bench.objects[NEURON_MODEL] = [model]
    bench.snapshot.observe("ADDED", model)
    bench.queue.add(Key("ml", "a"))
    await bench.run(10)
    assert bench.did() == [*_LISTS, "a"]


@virtual_time
async def test_a_list_that_fails_is_tried_again_and_nobody_works_meanwhile() -> None:
    bench = _Bench()
    bench.refusing = 3
    bench.queue.add(Key("ml", "a"))
    await bench.run(60)
    assert bench.did() == ["LIST neuronmodels"] * 3 + [*_LISTS, "a"]


@virtual_time
async def test_every_ten_minutes_or_so_whoever_missed_a_change_or_a_deletion_is_woken() -> None:
    bench = _Bench()
    bench.objects[NEURON_MODEL] = [_object(NEURON_MODEL, name, 1) for name in "abc"]
    bench.objects[JOB] = [_object(JOB, "j", 2, model="a"), _object(JOB, "k", 3, model="b")]

    def change_without_an_event() -> None:
        bench.log.clear()
        bench.objects[JOB] = [_object(JOB, "j", 9, model="c")]

    asyncio.get_running_loop().call_later(300, change_without_an_event)
    await bench.run(700 + 50)
    lists, woken = bench.log[:2], bench.log[2:]
    assert [what for what, _ in lists] == _LISTS
    assert 1000 + 0.8 * 600 <= lists[0][1] <= 1000 + 1.2 * 600 + 5
    assert sorted(what for what, _ in woken) == ["a", "b", "c"], "the old owner, the new one, and the one that lost all"


@virtual_time
async def test_an_outage_at_the_time_of_a_relist_does_not_end_leadership() -> None:
    bench = _Bench()

    def outage() -> None:
        bench.log.clear()
        bench.refusing = 5

    asyncio.get_running_loop().call_later(300, outage)
    await bench.run(800)
    assert bench.did() == ["LIST neuronmodels"] * 5 + _LISTS
