"""Two operators between whom the lead changes at bad moments end a life as one does that is not disturbed."""

from __future__ import annotations

import pytest

from faults.bed import Bed
from faults.meddling import Meddler
from faults.schedule import Schedule, no_faults
from faults.trials import all_succeed, lead, seeds, undisturbed

pytestmark = pytest.mark.cluster


_LIVES = ("two_revisions_and_the_end", "holder_deleted")


async def test_operators_whose_lead_flaps_end_a_life_as_one_alone(bed: Bed) -> None:
    await all_succeed((name, lambda name=name: undisturbed(bed, name)) for name in _LIVES)
    await all_succeed(
        (
            f"{name}, seed {seed}",
            lambda name=name, seed=seed: lead(
                bed, name, no_faults(), undisturbed(bed, name), replicas=2, beside=Meddler(seed)
            ),
        )
        for seed in seeds(1)
        for name in _LIVES
    )


@pytest.mark.faults
async def test_operators_whose_lead_flaps_amid_other_faults_end_a_life_as_one_alone(bed: Bed) -> None:
    name = "two_revisions_and_the_end"
    expected = await undisturbed(bed, name)
    await all_succeed(
        (
            f"{name}, seed {seed}",
            lambda seed=seed: lead(bed, name, Schedule(seed, rate=0.1), expected, replicas=2, beside=Meddler(seed)),
        )
        for seed in seeds(2)
    )
