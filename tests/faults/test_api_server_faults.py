"""Whatever the way to the API server does to requests and events, a life ends as an undisturbed one."""

from __future__ import annotations

import pytest

from faults.bed import Bed
from faults.lives import LIVES
from faults.schedule import Schedule
from faults.trials import all_succeed, lead, seeds, undisturbed

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("name", LIVES)
async def test_a_life_under_faults_ends_as_an_undisturbed_one(bed: Bed, name: str) -> None:
    expected = await undisturbed(bed, name)
    await all_succeed(
        (f"{name}, seed {seed}", lambda seed=seed: lead(bed, name, Schedule(seed), expected)) for seed in seeds(2)
    )
