"""What a serving Deployment and its pods say."""

from itertools import permutations
from typing import Any

import pytest

from neuron_operator.api.conditions import Reason
from neuron_operator.api.objects import Manifest
from neuron_operator.model.serving_state import (
    artifact_report,
    existing_replicas,
    is_available,
    ready_replicas,
    trouble_of,
)
from neuron_runtime.contract.outcome import FailureCode
from support.models import condition, ended, pod, restarting, running, terminated, waiting

SETTLED = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}


def deployment(wanted: int = 2, **status: Any) -> Manifest:
    return {"metadata": {"name": "llama-1", "generation": 2}, "spec": {"replicas": wanted}, "status": status}


AVAILABLE = {
    "settled": (deployment(**SETTLED), True),
    "just created": (deployment(), False),
    "the controller has not seen the latest form": (deployment(**SETTLED | {"observedGeneration": 1}), False),
    "one is not ready": (deployment(**SETTLED | {"readyReplicas": 1}), False),
    "none is ready": (deployment(observedGeneration=2, replicas=2, updatedReplicas=2), False),
    "one of an older form is left": (deployment(**SETTLED | {"replicas": 3}), False),
    "an older form is ready, the new one is not": (deployment(**SETTLED | {"updatedReplicas": 1}), False),
    "scaling down": (deployment(1, **SETTLED), True),
    "none wanted, none there": (deployment(0, observedGeneration=2), True),
}


@pytest.mark.parametrize("case", AVAILABLE)
def test_is_available(case: str) -> None:
    manifest, expected = AVAILABLE[case]
    assert is_available(manifest) is expected


def test_replicas_of_nothing_are_none() -> None:
    assert ready_replicas(None) == existing_replicas(None) == 0
    assert ready_replicas({"status": None}) == existing_replicas({}) == 0


UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes fit"}]
DAMAGED = terminated(FailureCode.ARTIFACT_DAMAGED, "weights.bin is damaged")
MISSING = terminated(FailureCode.ARTIFACT_MISSING)
SOURCE_MISSING = terminated(FailureCode.SOURCE_MISSING)
UNREACHABLE = terminated(FailureCode.STORE_UNREACHABLE)
INTERNAL = terminated(FailureCode.INTERNAL)
KILLED = {"exitCode": 137, "reason": "OOMKilled"}

# Status of one pod, and the reason and whether somebody has to help.
TROUBLES: dict[str, tuple[Manifest, Reason | None, bool | None]] = {
    "ready": (pod(container=running()), None, None),
    "loading": (pod(container=running(ready=False)), None, None),
    "not seen by a kubelet yet": (pod(phase="Pending"), None, None),
    "creating": (pod(phase="Pending", container=waiting("ContainerCreating")), None, None),
    "unschedulable": (pod(phase="Pending", conditions=UNSCHEDULABLE), Reason.UNSCHEDULABLE, False),
    "image": (pod(container=waiting("ErrImagePull", "no such image")), Reason.IMAGE_PULL_FAILED, True),
    "image, again": (pod(container=waiting("ImagePullBackOff")), Reason.IMAGE_PULL_FAILED, True),
    "image reference": (pod(container=waiting("InvalidImageName")), Reason.IMAGE_PULL_FAILED, True),
    "config": (pod(container=waiting("CreateContainerConfigError", "no secret")), Reason.CONTAINER_FAILING, True),
    "damaged": (pod(container=restarting(DAMAGED)), Reason.ARTIFACT_DAMAGED, True),
    "damaged, first time": (pod(container=ended(DAMAGED)), Reason.ARTIFACT_DAMAGED, True),
    "missing": (pod(container=restarting(MISSING)), Reason.ARTIFACT_MISSING, False),
    "source missing": (pod(container=restarting(SOURCE_MISSING)), Reason.SOURCE_MISSING, False),
    "source damaged": (
        pod(container=ended(terminated(FailureCode.SOURCE_DAMAGED))),
        Reason.SOURCE_DAMAGED,
        True,
    ),
    "incompatible": (
        pod(container=ended(terminated(FailureCode.ARTIFACT_INCOMPATIBLE))),
        Reason.ARTIFACT_INCOMPATIBLE,
        True,
    ),
    "store denies": (
        pod(container=ended(terminated(FailureCode.STORE_ACCESS_DENIED))),
        Reason.STORE_ACCESS_DENIED,
        True,
    ),
    "no bucket": (
        pod(container=ended(terminated(FailureCode.STORE_BUCKET_NOT_FOUND))),
        Reason.STORE_BUCKET_NOT_FOUND,
        True,
    ),
    "store does not answer": (pod(container=restarting(UNREACHABLE, 50)), Reason.STORE_UNREACHABLE, False),
    "ended once": (pod(container=restarting(INTERNAL, 1)), Reason.CONTAINER_FAILING, False),
    "ends again and again": (pod(container=restarting(INTERNAL, 3)), Reason.CONTAINER_FAILING, True),
    "has ended often, and is starting": (
        pod(container=running(ready=False) | {"restartCount": 9, "lastState": {"terminated": INTERNAL}}),
        Reason.CONTAINER_FAILING,
        False,
    ),
    "out of memory once": (pod(container=restarting(KILLED)), Reason.CONTAINER_FAILING, False),
    "out of memory": (pod(container=restarting(KILLED, 3)), Reason.CONTAINER_FAILING, True),
    "runs again after damage": (
        pod(container=running(ready=False) | {"lastState": {"terminated": DAMAGED}}),
        Reason.ARTIFACT_DAMAGED,
        True,
    ),
    "ready again after damage": (pod(container=running() | {"lastState": {"terminated": DAMAGED}}), None, None),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_trouble_of_one_pod(case: str) -> None:
    manifest, reason, needs_help = TROUBLES[case]
    found = trouble_of(deployment(), [manifest])
    assert (found.reason if found is not None else None) == reason
    assert (found.needs_help if found is not None else None) == needs_help


def test_the_message_carries_what_the_cluster_said() -> None:
    found = trouble_of(deployment(), [pod(phase="Pending", conditions=UNSCHEDULABLE)])
    assert found is not None
    assert "0/2 nodes fit" in found.message


def test_a_server_out_of_memory_is_given_more_where_servers_get_it() -> None:
    found = trouble_of(deployment(), [TROUBLES["out of memory"][0]])
    assert found is not None
    assert "serving.resources" in found.remedy


def test_what_needs_help_is_told_first_whatever_the_order() -> None:
    pods = [TROUBLES[case][0] for case in ("unschedulable", "ended once", "damaged", "loading")]
    assert {trouble.reason for order in permutations(pods) if (trouble := trouble_of(deployment(), list(order)))} == {
        Reason.ARTIFACT_DAMAGED
    }


def test_refused_pods_are_told_unless_a_pod_tells_more() -> None:
    refused = deployment(conditions=[condition("ReplicaFailure", "FailedCreate")])
    found = trouble_of(refused, [])
    assert found is not None
    assert (found.reason, found.needs_help) == (Reason.API_SERVER_REFUSED, True)
    beside = trouble_of(refused, [TROUBLES["damaged"][0]])
    assert beside is not None
    assert beside.reason is Reason.ARTIFACT_DAMAGED
    assert trouble_of(refused, [TROUBLES["loading"][0]]) == found


EARLY, LATE = "2026-01-01T12:00:00Z", "2026-01-01T12:05:00Z"


@pytest.mark.parametrize("report", [MISSING, SOURCE_MISSING, DAMAGED], ids=["artifact", "source", "damage"])
def test_a_report_keeps_its_name_while_the_container_is_started_again(report: Manifest) -> None:
    first = artifact_report([pod(container=ended(report))])
    assert first is not None
    assert artifact_report([pod(container=restarting(report, restarts=1))]) == first
    again = running(ready=False) | {"lastState": {"terminated": report}, "restartCount": 1}
    assert artifact_report([pod(container=again)]) == first


def test_the_latest_report_counts_whatever_the_order() -> None:
    early = pod(uid="a", container=ended(terminated(FailureCode.ARTIFACT_MISSING, time=EARLY)))
    late = pod(uid="b", container=ended(terminated(FailureCode.ARTIFACT_MISSING, time=LATE)))
    newest = artifact_report([late])
    assert artifact_report([early, late]) == artifact_report([late, early]) == newest
    assert artifact_report([early]) not in (None, newest)


@pytest.mark.parametrize("case", ["ready", "loading", "store denies", "out of memory", "not seen by a kubelet yet"])
def test_only_what_is_missing_or_damaged_is_a_report(case: str) -> None:
    assert artifact_report([TROUBLES[case][0]]) is None


def test_a_pod_that_is_ready_again_reports_nothing() -> None:
    assert artifact_report([pod(container=running() | {"lastState": {"terminated": MISSING}})]) is None
