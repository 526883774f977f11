"""Whatever S3 answers the operator, a life ends as an undisturbed one."""

from __future__ import annotations

import pytest

from faults.bed import Bed
from faults.schedule import Schedule, no_faults
from faults.trials import all_succeed, lead, seeds, undisturbed

pytestmark = pytest.mark.cluster


_LIVES = ("two_revisions", "failure_and_success", "holder_deleted")


async def test_a_life_with_a_faulty_store_ends_as_an_undisturbed_one(bed: Bed) -> None:
    await all_succeed((name, lambda name=name: undisturbed(bed, name)) for name in _LIVES)
    await all_succeed(
        (
            f"{name}, seed {seed}",
            lambda name=name, seed=seed: lead(
                bed, name, no_faults(), undisturbed(bed, name), store_schedule=Schedule(seed, name, rate=0.6)
            ),
        )
        for seed in seeds(1)
        for name in _LIVES
    )
