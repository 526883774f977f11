"""What lives under faults have found, each as the shortest story in which it happened."""

from __future__ import annotations

import pytest

from faults.bed import Bed
from faults.schedule import told
from faults.trials import lead, undisturbed

pytestmark = pytest.mark.cluster


async def test_an_object_whose_deletion_met_a_conflict_is_not_forgotten(bed: Bed) -> None:
    # Not only another UID is a conflict: an admission webhook may answer so, and the object is still there.
    name = "create_to_ready"
    await lead(bed, name, told(delete_jobs_1="409"), await undisturbed(bed, name))
