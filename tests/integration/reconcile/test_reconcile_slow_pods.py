"""Pods that a node has taken, and whose container is not created: what they wait for is said, not guessed."""

from __future__ import annotations

import pytest

from neuron_operator.api.conditions import rfc3339
from neuron_operator.api.objects import DEPLOYMENT, JOB, Kind, Manifest
from support.artifact_store import ArtifactStore
from support.reconciling import World, condition


def _take(world: World, pod: Manifest) -> None:
    """Say of a pod what a kubelet says that has taken it, and waits for something to mount."""
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    container = {"name": pod["spec"]["containers"][0]["name"], "image": "i", "imageID": "", "restartCount": 0}
    status = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(world.now)}],
        "containerStatuses": [{**container, "ready": False, "state": waiting}],
    }
    world.patch("pod", pod["metadata"]["name"], {"status": status}, "--subresource=status")


@pytest.mark.parametrize(("kind", "decides"), [(JOB, "Compiled"), (DEPLOYMENT, "Ready")], ids=["compile", "serving"])
async def test_a_pod_that_waits_for_something_to_mount_is_named_after_a_minute(
    world: World, store: ArtifactStore, kind: Kind, decides: str
) -> None:
    if kind == DEPLOYMENT:
        store.put()
    world.create_model()
    await world.settle()
    (pod,) = await world.pods_of(await world.one(kind))
    _take(world, pod)

    outcome = await world.reconcile()
    before = await world.status()
    assert outcome.after is not None and 0 < outcome.after <= 60, "no event tells that a minute has passed"
    assert "kubectl describe" not in before["message"]

    world.later(60)
    await world.reconcile()
    status = await world.status()
    assert condition(status, decides) is not None
    assert f"kubectl describe pod {pod['metadata']['name']}" in status["message"]
    assert status["waitingFor"]["message"] == status["message"]
    assert status["phase"] != "Failed"

    # Nothing more to say: it is not written again.
    assert world.writes
    world.later(600)
    await world.reconcile()
    assert world.writes == []

    world.report(pod, {"state": {"running": {"startedAt": rfc3339(world.now)}}})
    await world.reconcile()
    assert "waitingFor" not in await world.status()
