"""An operator that is killed after any of its writes is followed by one that finishes what it began."""

from __future__ import annotations

import pytest

from faults.api_proxy import Crash
from faults.bed import Bed
from faults.lives import LIVES
from faults.schedule import Schedule, no_faults
from faults.trials import all_succeed, lead, seeds, undisturbed

pytestmark = pytest.mark.cluster


async def _crashes(bed: Bed, name: str, *, answered: bool, step: int = 1) -> None:
    expected = await undisturbed(bed, name)
    # Some more than there are, because a disturbed life may take more writes.
    await all_succeed(
        (
            f"{name}, killed after write {after} {'with' if answered else 'without'} its answer",
            lambda after=after: lead(bed, name, no_faults(), expected, crash=Crash(after, answered)),
        )
        for after in range(1, expected.writes + 3, step)
    )


async def test_a_crash_on_the_way_to_ready_leads_to_the_same_end(bed: Bed) -> None:
    await _crashes(bed, "create_to_ready", answered=False, step=2)


@pytest.mark.faults
@pytest.mark.parametrize("answered", [False, True], ids=["unanswered", "answered"])
@pytest.mark.parametrize("name", LIVES)
async def test_a_crash_after_any_write_of_a_life_leads_to_the_same_end(bed: Bed, name: str, answered: bool) -> None:
    await _crashes(bed, name, answered=answered)


@pytest.mark.faults
async def test_a_crash_amid_other_faults_leads_to_the_same_end(bed: Bed) -> None:
    name = "two_revisions_and_the_end"
    expected = await undisturbed(bed, name)
    await all_succeed(
        (
            f"{name}, seed {seed}, killed after write {after}",
            lambda after=after, seed=seed: lead(
                bed, name, Schedule(seed, f"{name}/{after}"), expected, crash=Crash(after, answered=seed % 2 == 0)
            ),
        )
        for seed in seeds(2)
        for after in range(1 + seed % 3, expected.writes + 1, 3)
    )
