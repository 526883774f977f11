"""What a compile Job and its pod say."""

from datetime import timedelta
from typing import Any

import pytest

from neuron_operator.api.conditions import Reason
from neuron_operator.api.objects import Manifest
from neuron_operator.diagnosis.catalogue import OUT_OF_MEMORY, POD_LOST, POD_NEVER_RAN, TIMED_OUT, UNKNOWN
from neuron_operator.model.jobs import JobState, observe_job, standstill
from neuron_operator.model.policies import GiveUp, RetryLater, RetryNow
from neuron_operator.model.resources.compile_job import attempt_of, failures_before
from neuron_operator.model.retries import failure_of, next_attempt
from neuron_runtime.contract.outcome import FailureCode
from support.models import NOW, condition, ended, job, model, pod, running, terminated, waiting

LLAMA = model()
FAILED = [condition("Failed", "BackoffLimitExceeded")]
LATE = [condition("Failed", "DeadlineExceeded")]
TIMED_OUT_POD = pod(
    phase="Failed", reason="DeadlineExceeded", container=ended({"exitCode": 137, "reason": "Error", "message": "log"})
)
KILLED: Manifest = {
    "exitCode": 137,
    "reason": "OOMKilled",
    "message": "last words",
    "finishedAt": "2026-01-01T12:00:00Z",
}
UNSTARTED: Manifest = {"exitCode": 137, "reason": "ContainerStatusUnknown"}
SIGNALED: Manifest = {"exitCode": 143, "reason": "Error", "message": "log tail"}

# Conditions of the Job, its pods, and the state and code that follow.
STATES: dict[str, tuple[list[Manifest], list[Manifest], JobState, str | None]] = {
    "just created": ([], [], JobState.LIVE, None),
    "pod runs": ([], [pod(container=running())], JobState.LIVE, None),
    "pod ended, Job does not know yet": (
        [],
        [pod(phase="Failed", container=ended(terminated(FailureCode.INTERNAL)))],
        JobState.LIVE,
        None,
    ),
    "about to fail": ([condition("FailureTarget")], [], JobState.LIVE, None),
    "suspended before": ([condition("Suspended", status="False")], [], JobState.LIVE, None),
    "complete": ([condition("Complete")], [], JobState.SUCCEEDED, None),
    "our own message": (
        FAILED,
        [pod(phase="Failed", container=ended(terminated(FailureCode.STORE_ACCESS_DENIED)))],
        JobState.FAILED,
        FailureCode.STORE_ACCESS_DENIED.value,
    ),
    "out of memory": (FAILED, [pod(phase="Failed", container=ended(KILLED))], JobState.FAILED, OUT_OF_MEMORY),
    "a signal": (FAILED, [pod(phase="Failed", container=ended(SIGNALED))], JobState.FAILED, UNKNOWN),
    "the deadline": (
        FAILED,
        [pod(phase="Failed", reason="DeadlineExceeded", container=ended(SIGNALED))],
        JobState.FAILED,
        TIMED_OUT,
    ),
    "the deadline of a pod that only waited": (
        FAILED,
        [pod(phase="Failed", reason="DeadlineExceeded", container=waiting("ImagePullBackOff"))],
        JobState.FAILED,
        POD_NEVER_RAN,
    ),
    "the deadline of a pod whose account was closed": (
        FAILED,
        [pod(phase="Failed", reason="DeadlineExceeded", container=ended(UNSTARTED))],
        JobState.FAILED,
        POD_NEVER_RAN,
    ),
    "no pod in time": (LATE, [], JobState.FAILED, POD_NEVER_RAN),
    "no node in time": (LATE, [pod(phase="Pending")], JobState.FAILED, POD_NEVER_RAN),
    "the pod is gone": (FAILED, [], JobState.FAILED, POD_LOST),
    "the pod of another Job": (
        FAILED,
        [pod(owner="uid-other", phase="Failed", container=ended(KILLED))],
        JobState.FAILED,
        POD_LOST,
    ),
    "the pod watch is behind": (FAILED, [pod(container=running())], JobState.LIVE, None),
    "the node refused the pod": (
        FAILED,
        [pod(phase="Failed", reason="OutOfcpu", message="Pod was rejected: Node didn't have enough resource: cpu")],
        JobState.FAILED,
        POD_LOST,
    ),
    "ended well, failed all the same": (
        FAILED,
        [pod(phase="Succeeded", container=ended(terminated(None)))],
        JobState.FAILED,
        POD_LOST,
    ),
    "the newest pod counts": (
        FAILED,
        [
            pod(uid="2", phase="Failed", container=ended(KILLED), created="2026-01-01T11:50:00Z"),
            pod(uid="1", phase="Failed", container=ended(SIGNALED)),
        ],
        JobState.FAILED,
        OUT_OF_MEMORY,
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_state_and_code(case: str) -> None:
    conditions, pods, state, code = STATES[case]
    found = observe_job(job(LLAMA, conditions=conditions), pods)
    assert found.state is state
    assert (found.diagnosis.code if found.diagnosis is not None else None) == code


def test_a_job_without_status_is_live() -> None:
    manifest = job(LLAMA)
    del manifest["status"]
    found = observe_job(manifest, [])
    assert found.state is JobState.LIVE
    assert found.started_at is None


def test_a_job_on_its_way_out_holds_the_flight_until_it_is_gone() -> None:
    manifest = job(LLAMA, conditions=FAILED)
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert observe_job(manifest, []).state is JobState.LIVE


def test_a_refused_pod_says_why() -> None:
    refused = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory")
    found = observe_job(job(LLAMA, conditions=FAILED), [refused]).diagnosis
    assert found is not None
    assert "low on resource: memory" in found.message


def test_a_pod_that_never_ran_says_what_it_waited_for() -> None:
    waited = pod(
        phase="Failed", reason="DeadlineExceeded", container=waiting("ErrImagePull", "no such image: compile:1")
    )
    found = observe_job(job(LLAMA, conditions=FAILED), [waited]).diagnosis
    assert found is not None
    assert "no such image: compile:1" in found.message


ADDRESSES: dict[str, tuple[list[Manifest], str | None]] = {
    "no pod": ([], None),
    "pending": ([pod(phase="Pending", podIP="10.0.0.1")], None),
    "running without address": ([pod()], None),
    "running": ([pod(podIP="10.0.0.1")], "10.0.0.1"),
    "a pod without status": ([pod() | {"status": None}], None),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_address_of_the_running_pod(case: str) -> None:
    pods, expected = ADDRESSES[case]
    assert observe_job(job(LLAMA), pods).pod_ip == expected


LEDGERS: dict[str, tuple[dict[str, Any], int, int]] = {
    "as written": ({}, 4, 2),
    "gone": ({"annotations": {}}, 1, 0),
    "null": ({"annotations": None}, 1, 0),
    "nonsense": (
        {"annotations": {"neuron-operator.dev/attempt": "many", "neuron-operator.dev/failures": "-1"}},
        1,
        0,
    ),
}


@pytest.mark.parametrize("case", LEDGERS)
def test_a_ledger_that_somebody_edited_starts_anew(case: str) -> None:
    metadata, attempt, failures = LEDGERS[case]
    manifest = job(LLAMA, attempt=4, failures=2)
    manifest["metadata"] |= metadata
    assert (attempt_of(manifest), failures_before(manifest)) == (attempt, failures)


UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes fit"}]
LONG_AGO = "2026-01-01T11:50:00Z"

# A live Job's pods, and the reason for which it stands still. The Job itself is a minute old.
STANDING: dict[str, tuple[list[Manifest], Reason | None]] = {
    "just created": ([], None),
    "no node for a moment": (
        [pod(phase="Pending", created="2026-01-01T11:56:00Z", conditions=UNSCHEDULABLE)],
        None,
    ),
    "no node for minutes": ([pod(phase="Pending", created=LONG_AGO, conditions=UNSCHEDULABLE)], Reason.UNSCHEDULABLE),
    "no image for minutes": (
        [pod(phase="Pending", created=LONG_AGO, container=waiting("ImagePullBackOff"))],
        Reason.IMAGE_PULL_FAILED,
    ),
    "a large image is pulled": (
        [pod(phase="Pending", created=LONG_AGO, container=waiting("ContainerCreating"))],
        None,
    ),
    "running": ([pod(container=running(), created=LONG_AGO)], None),
    "has run": ([pod(phase="Failed", created=LONG_AGO, container=ended(KILLED))], None),
    "another pod after an eviction": (
        [
            pod(uid="a", phase="Failed", created=LONG_AGO, reason="Evicted"),
            pod(uid="b", phase="Pending", created="2026-01-01T11:59:00Z", conditions=UNSCHEDULABLE),
        ],
        None,
    ),
}


@pytest.mark.parametrize("case", STANDING)
def test_a_job_stands_still_once_its_pod_could_not_run_for_minutes(case: str) -> None:
    pods, expected = STANDING[case]
    found = standstill(observe_job(job(LLAMA), pods), NOW)
    assert (found.reason if found is not None else None) == expected


def test_a_job_without_a_pod_for_minutes_stands_still() -> None:
    observed = observe_job(job(LLAMA), [])
    found = standstill(observed, NOW + timedelta(minutes=5))
    assert found is not None
    assert f"kubectl describe job {observed.name}" in found.remedy


def test_a_job_that_ended_or_goes_away_does_not_stand_still() -> None:
    late = NOW + timedelta(hours=9)
    assert standstill(observe_job(job(LLAMA, conditions=FAILED), []), late) is None
    leaving = job(LLAMA)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert standstill(observe_job(leaving, []), late) is None


def test_a_job_that_left_no_artifact_has_failed() -> None:
    manifest = job(LLAMA, conditions=[condition("Complete")])
    manifest["status"]["completionTime"] = "2026-01-01T12:00:00Z"
    found = observe_job(manifest, [])
    assert failure_of(found).code == FailureCode.ARTIFACT_MISSING.value
    assert next_attempt(LLAMA, found, NOW) == RetryLater(10)
    assert next_attempt(LLAMA, found, NOW + timedelta(seconds=10)) == RetryNow(1)


def test_other_compile_settings_are_worth_another_attempt() -> None:
    timed_out = observe_job(job(LLAMA, attempt=2, failures=1, conditions=FAILED), [TIMED_OUT_POD])
    assert next_attempt(LLAMA, timed_out, NOW) == GiveUp()
    assert next_attempt(model({"suspend": True}), timed_out, NOW) == GiveUp()
    assert next_attempt(model({"compile": {"timeout": "4h"}}), timed_out, NOW) == RetryNow(0)
    more_memory = {"compile": {"resources": {"requests": {"memory": "64Gi"}}}}
    assert next_attempt(model(more_memory), timed_out, NOW) == RetryNow(0)
    assert next_attempt(model({"compile": {"timeout": "120m"}}), timed_out, NOW) == GiveUp()
