"""What costs nothing: a settled cluster, which is not written to but for the Lease; and an artifact that is there."""

from __future__ import annotations

import sys
import threading

import pytest

from support.operator import InstalledOperator

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

_MODELS = 8
_SETTLE_SECONDS = 15
_QUIET_SECONDS = 300


def test_eight_ready_models_are_left_alone(
    operator: InstalledOperator, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = operator.add_tiny_model("quiet", seed=3)
    first, second, *others = [f"quiet-{number}" for number in range(_MODELS)]
    operator.create(namespace, first, repo)
    operator.wait_until_ready(namespace, first)
    operator.create(namespace, second, repo)
    operator.wait_until_ready(namespace, second)
    assert operator.status(namespace, second)["artifact"]["reused"] is True
    for name in others:
        operator.create(namespace, name, repo)
    for name in others:
        operator.wait_until_ready(namespace, name)

    # What is claimed is about time that passes, so the test lets it pass; first, that in which the last one settles.
    threading.Event().wait(_SETTLE_SECONDS)
    before = operator.writes()
    threading.Event().wait(_QUIET_SECONDS)
    written = operator.writes() - before

    assert set(written) <= {("update", "leases")}, written
    assert operator.writes(namespace)["create", "jobs"] == 1
    # Measurements for people: how fast a machine is, is nothing that a test may ask of it.
    reuse = operator.seconds_to_condition(namespace, second, "Compiled")
    memory = operator.process().memory_info().rss / 2**20
    with capsys.disabled():
        sys.stdout.write(
            f"\na second model of the same inputs: Compiled {reuse:.2f} s after its creation\n"
            f"operator: {memory:.0f} MiB RSS; lease renewals in {_QUIET_SECONDS} s: {written.total()}\n"
        )
