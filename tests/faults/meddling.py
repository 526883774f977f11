"""What happens to leaders: leases that vanish or are taken, ways that are cut, processes that are stopped or killed."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable

from faults.hasty import SHORT_GIVE_UP_SECONDS, SHORT_LEASE_SECONDS
from faults.life import LEASE, LEASES, Life
from faults.replica import Replica
from neuron_localcluster.node.api import MERGE_PATCH, APIError

# Longer than a leader tries to renew before it gives up.
_CUT_SECONDS = SHORT_GIVE_UP_SECONDS + 0.5
_THIEF_SECONDS = 3


class Meddler:
    """Does one thing after the other to whoever leads, chosen and timed by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"meddler/{seed}")

    async def __call__(self, life: Life) -> None:
        """Go on until cancelled; what was cut or stopped goes on then."""
        deeds = (self._delete, self._steal, self._cut_off, self._stop, self._kill, self._end)
        while True:
            await asyncio.sleep(self._random.uniform(0.0, 1.2))
            deed = self._random.choice(deeds)
            leader = await _leader(life)
            if leader is None:
                continue
            name = deed.__name__.strip("_")
            life.schedules[0].log.append(f"{leader.name}: {name}")
            await deed(life, leader)

    async def _delete(self, life: Life, leader: Replica) -> None:
        # The holder learns of it when it renews.
        life.unguarded_until = time.monotonic() + SHORT_LEASE_SECONDS
        await _unless_gone(life.bed.api.delete(LEASES.path(life.namespace, LEASE), {}))

    async def _steal(self, life: Life, leader: Replica) -> None:
        spec = {"holderIdentity": "thief", "leaseDurationSeconds": _THIEF_SECONDS}
        await _unless_gone(life.bed.api.patch(LEASES.path(life.namespace, LEASE), {"spec": spec}, MERGE_PATCH))

    async def _cut_off(self, life: Life, leader: Replica) -> None:
        door = leader.door
        if door is None:
            return
        door.passable.clear()
        try:
            await asyncio.sleep(_CUT_SECONDS)
        finally:
            door.passable.set()

    async def _stop(self, life: Life, leader: Replica) -> None:
        leader.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(SHORT_LEASE_SECONDS + 1)
        finally:
            leader.signal(signal.SIGCONT)

    async def _kill(self, life: Life, leader: Replica) -> None:
        leader.signal(signal.SIGKILL)

    async def _end(self, life: Life, leader: Replica) -> None:
        leader.signal(signal.SIGTERM)


async def _leader(life: Life) -> Replica | None:
    lease = await life.bed.api.find(LEASES.path(life.namespace, LEASE))
    holder = ((lease or {}).get("spec") or {}).get("holderIdentity")
    return next((replica for replica in life.replicas if replica.name == holder), None)


async def _unless_gone(call: Awaitable[object]) -> None:
    try:
        await call
    except APIError as error:
        if error.status != 404:
            raise
