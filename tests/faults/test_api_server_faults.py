"""Whatever the way to the API server does to requests and events, a life ends as an undisturbed one."""

from __future__ import annotations

import os

import pytest

from faults.bed import Bed
from faults.lives import LIVES
from faults.schedule import Schedule
from faults.trials import all_succeed, lead, seeds, undisturbed

pytestmark = pytest.mark.cluster

# Now and then ends with a Job too many, which is not understood yet (docs/faults.md): `make faults` leads it.
_OPEN = frozenset({"deleted_while_compiling"})
_LED = [name for name in LIVES if name not in _OPEN or "SEEDS" in os.environ]


async def test_any_life_under_faults_ends_as_an_undisturbed_one(bed: Bed) -> None:
    await all_succeed((name, lambda name=name: undisturbed(bed, name)) for name in _LED)
    await all_succeed(
        (
            f"{name}, seed {seed}",
            lambda name=name, seed=seed: lead(bed, name, Schedule(seed, name), undisturbed(bed, name)),
        )
        for seed in seeds(1)
        for name in _LED
    )
