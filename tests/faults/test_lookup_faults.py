"""Whatever S3 answers the operator, a life ends as an undisturbed one."""

from __future__ import annotations

import pytest

from faults.bed import Bed
from faults.schedule import Schedule, no_faults
from faults.trials import all_succeed, lead, seeds, undisturbed

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("name", ["two_revisions", "failure_and_success", "holder_deleted"])
async def test_a_life_with_a_faulty_store_ends_as_an_undisturbed_one(bed: Bed, name: str) -> None:
    expected = await undisturbed(bed, name)
    await all_succeed(
        (
            f"{name}, seed {seed}",
            lambda seed=seed: lead(bed, name, no_faults(), expected, store_schedule=Schedule(seed, rate=0.6)),
        )
        for seed in seeds(2)
    )
