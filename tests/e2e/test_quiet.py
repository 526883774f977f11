"""A settled cluster costs nothing: no write but the Lease."""

from __future__ import annotations

import threading

import pytest

from support.operator import InstalledOperator

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

_MODELS = 8
_QUIET_SECONDS = 300


def test_eight_ready_models_are_left_alone(operator: InstalledOperator, namespace: str) -> None:
    repo = operator.add_tiny_model("quiet", seed=3)
    names = [f"quiet-{number}" for number in range(_MODELS)]
    for name in names:
        operator.create(namespace, name, repo)
    for name in names:
        operator.wait_until_ready(namespace, name, seconds=600)

    before = operator.writes()
    # The claim is about time that passes, so the test lets it pass.
    threading.Event().wait(_QUIET_SECONDS)
    written = operator.writes() - before

    assert set(written) <= {("update", "leases")}, written
    assert operator.writes(namespace)["create", "jobs"] == 1
    print(f"operator: {operator.process().memory_info().rss / 2**20:.0f} MiB RSS, lease renewals: {written.total()}")  # noqa: T201
