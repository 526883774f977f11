"""An operator that is killed after any of its writes is followed by one that finishes what it began."""

from __future__ import annotations

import pytest

from faults.api_proxy import Crash
from faults.bed import Bed
from faults.schedule import no_faults
from faults.trials import all_succeed, lead, undisturbed

pytestmark = pytest.mark.cluster

_WHOLE_LIFE = "two_revisions_and_the_end"


async def _every(bed: Bed, name: str, step: int, answered: tuple[bool, ...]) -> None:
    expected = await undisturbed(bed, name)
    await all_succeed(
        (
            f"{name}, killed after write {after} {'with' if seen else 'without'} its answer",
            lambda after=after, seen=seen: lead(
                bed, name, no_faults(), expected, crash=Crash(after=after, answered=seen)
            ),
        )
        for seen in answered
        # One more than there are, because a disturbed life may take more writes.
        for after in range(1, expected.writes + 2, step)
    )


async def test_a_crash_after_any_write_up_to_ready_leads_to_the_same_end(bed: Bed) -> None:
    await _every(bed, "create_to_ready", 1, (False,))
