"""Phase, conditions and container statuses; when a container is started again."""

from __future__ import annotations

import dataclasses

import pytest

from neuron_localcluster.node.backoff import Backoff, should_restart
from neuron_localcluster.node.state import (
    ContainerState,
    Running,
    State,
    Terminated,
    Waiting,
    after_lost_agent,
    from_status,
    to_status,
)
from neuron_localcluster.node.status import PodState, pod_status

T0, T1 = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
WAITING, RUNNING = Waiting("ContainerCreating"), Running(T0)


def ended(code: int) -> Terminated:
    return Terminated(code, "Completed" if code == 0 else "Error", T0, T1)


def container(state: State, *, name: str = "c", ready: bool = False, last: Terminated | None = None) -> ContainerState:
    return ContainerState(name, "image:1", state, last=last, ready=ready, started=ready)


def pod(*containers: ContainerState, inits: tuple[ContainerState, ...] = (), policy: str = "Always") -> PodState:
    return PodState(policy, "127.77.0.5", "127.0.0.1", T0, inits, containers)


@pytest.mark.parametrize(
    ("policy", "states", "phase"),
    [
        ("Always", [WAITING], "Pending"),
        ("Always", [RUNNING, WAITING], "Pending"),
        ("Always", [RUNNING], "Running"),
        ("Always", [ended(0)], "Running"),
        ("Always", [ended(1)], "Running"),
        ("OnFailure", [ended(1)], "Running"),
        ("OnFailure", [ended(0), RUNNING], "Running"),
        ("OnFailure", [ended(0)], "Succeeded"),
        ("Never", [ended(0), ended(0)], "Succeeded"),
        ("Never", [ended(0), ended(3)], "Failed"),
        ("Never", [ended(3), RUNNING], "Running"),
    ],
)
def test_phase_of_containers(policy: str, states: list[State], phase: str) -> None:
    state = pod(*(container(each, name=str(index)) for index, each in enumerate(states)), policy=policy)
    assert pod_status(state, [], T1)["phase"] == phase


@pytest.mark.parametrize(
    ("policy", "init", "phase", "initialized"),
    [
        ("Never", RUNNING, "Pending", "False"),
        ("Never", ended(1), "Failed", "False"),
        ("Always", ended(1), "Pending", "False"),
        ("Always", ended(0), "Running", "True"),
    ],
)
def test_phase_with_an_init_container(policy: str, init: State, phase: str, initialized: str) -> None:
    after = RUNNING if init == ended(0) else WAITING
    status = pod_status(pod(container(after), inits=(container(init, name="i"),), policy=policy), [], T1)
    condition = next(c for c in status["conditions"] if c["type"] == "Initialized")
    assert (status["phase"], condition["status"]) == (phase, initialized)


def test_a_container_that_waits_for_its_restart_does_not_make_the_pod_pending() -> None:
    crashing = container(Waiting("CrashLoopBackOff"), last=ended(1))
    assert pod_status(pod(crashing), [], T1)["phase"] == "Running"


def test_an_ended_pod_has_a_final_phase_and_final_containers() -> None:
    never_ran = dataclasses.replace(pod(container(ended(0), name="a"), container(WAITING, name="b")), ended=True)
    status = pod_status(never_ran, [], T1)
    unknown = status["containerStatuses"][1]["state"]["terminated"]
    assert (status["phase"], unknown["reason"], unknown["exitCode"]) == ("Failed", "ContainerStatusUnknown", 137)

    stopped = dataclasses.replace(pod(container(ended(0))), ended=True)
    assert pod_status(stopped, [], T1)["phase"] == "Succeeded"

    crashing = dataclasses.replace(pod(container(Waiting("CrashLoopBackOff"), last=ended(5))), ended=True)
    status = pod_status(crashing, [], T1)
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    assert status["phase"] == "Failed"


def test_a_pod_that_the_node_has_failed_says_why() -> None:
    failed = dataclasses.replace(pod(container(RUNNING, ready=True)), failure=("DeadlineExceeded", "too long"))
    status = pod_status(failed, [], T1)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "DeadlineExceeded", "too long")
    assert {c["type"]: c["status"] for c in status["conditions"]}["Ready"] == "False"


def test_a_transition_time_changes_exactly_with_its_status() -> None:
    first = pod_status(pod(container(RUNNING)), [], T0)["conditions"]
    assert [(c["type"], c["status"]) for c in first] == [
        ("Initialized", "True"),
        ("ContainersReady", "False"),
        ("Ready", "False"),
    ]
    assert first[2]["message"] == "containers with unready status: [c]"
    second = pod_status(pod(container(RUNNING, ready=True)), first, T1)["conditions"]
    assert [(c["type"], c["status"], c["lastTransitionTime"]) for c in second] == [
        ("Initialized", "True", T0),
        ("ContainersReady", "True", T1),
        ("Ready", "True", T1),
    ]
    # A merge must take the old reason away.
    assert second[2]["reason"] is None


@pytest.mark.parametrize("state", [WAITING, Waiting("ErrImagePull", "no"), RUNNING, ended(0), ended(137)])
def test_a_container_survives_the_way_to_the_api_and_back(state: State) -> None:
    before = ContainerState("c", "image:1", state, ended(2), 3, True, True, "process://1")
    assert from_status(to_status(before)) == before


def test_a_lost_agent_has_killed_what_ran_and_nothing_else() -> None:
    lost = after_lost_agent(container(RUNNING, ready=True), T1)
    assert isinstance(lost.state, Terminated)
    assert (lost.state.exit_code, lost.state.finished_at, lost.ready) == (137, T1, False)
    for state in (WAITING, ended(0)):
        assert after_lost_agent(container(state), T1) == container(state)


def test_restarts_come_at_once_then_ever_later_until_a_long_run() -> None:
    backoff = Backoff()
    assert [backoff.delay(1) for _ in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert [backoff.delay(601), backoff.delay(1)] == [0, 10]


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policy(policy: str, code: int, expected: bool) -> None:
    assert should_restart(policy, code) is expected
