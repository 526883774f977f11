"""The status of a pod from what is known of its containers: phase and conditions as the kubelet derives them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuron_localcluster.node.backoff import should_restart
from neuron_localcluster.node.state import (
    KILLED,
    ContainerState,
    Manifest,
    Running,
    Terminated,
    Waiting,
    to_status,
)

_STATUS_UNKNOWN = "ContainerStatusUnknown"


@dataclass(frozen=True)
class PodState:
    """A pod on its node.

    `ended` says that nothing of it runs any more nor will; `failure` is (reason, message) when the node itself has
    failed it, whatever its containers did; `disrupted` says that it ended because its node's agent did.
    """

    restart_policy: str
    ip: str
    host_ip: str
    start_time: str
    init_containers: tuple[ContainerState, ...]
    containers: tuple[ContainerState, ...]
    ended: bool = False
    failure: tuple[str, str] | None = None
    disrupted: bool = False


def pod_status(pod: PodState, previous: Sequence[Manifest], now: str) -> Manifest:
    """The fields of `.status` that the node owns; `previous` are the pod's conditions as they were.

    A condition's transition time changes exactly when its status does.
    """
    inits = tuple(_final(container, now) for container in pod.init_containers) if pod.ended else pod.init_containers
    containers = tuple(_final(container, now) for container in pod.containers) if pod.ended else pod.containers
    phase = _phase(dataclasses.replace(pod, init_containers=inits, containers=containers))
    status: Manifest = {
        "phase": phase,
        "conditions": _with_times([*_conditions(inits, containers, phase), *_disruption(pod)], previous, now),
        "hostIP": pod.host_ip,
        "hostIPs": [{"ip": pod.host_ip}],
        "podIP": pod.ip,
        "podIPs": [{"ip": pod.ip}],
        "startTime": pod.start_time,
        "containerStatuses": [to_status(container) for container in containers],
    }
    if inits:
        status["initContainerStatuses"] = [to_status(container) for container in inits]
    if pod.failure:
        status["reason"], status["message"] = pod.failure
    return status


def is_ready(containers: Sequence[ContainerState]) -> bool:
    return all(container.ready for container in containers)


def _phase(pod: PodState) -> str:
    if pod.failure:
        return "Failed"
    if not _initialized(pod.init_containers):
        failed = any(isinstance(c.state, Terminated) and c.state.exit_code for c in pod.init_containers)
        return "Failed" if pod.ended or (failed and pod.restart_policy == "Never") else "Pending"
    if pod.ended:
        return "Succeeded" if all(_succeeded(container) for container in pod.containers) else "Failed"
    if any(isinstance(c.state, Waiting) and c.last is None for c in pod.containers):
        return "Pending"
    finished = [c.state for c in pod.containers if isinstance(c.state, Terminated)]
    if len(finished) < len(pod.containers) or any(should_restart(pod.restart_policy, s.exit_code) for s in finished):
        return "Running"
    return "Succeeded" if all(state.exit_code == 0 for state in finished) else "Failed"


def _conditions(inits: Sequence[ContainerState], containers: Sequence[ContainerState], phase: str) -> list[Manifest]:
    incomplete = [container.name for container in inits if not _succeeded(container)]
    unready = [container.name for container in containers if not container.ready]
    finished = phase == "Succeeded"
    initialized = _condition(
        "Initialized",
        not incomplete,
        "ContainersNotInitialized",
        f"containers with incomplete status: {_list(incomplete)}",
    )
    if finished:
        initialized["reason"] = "PodCompleted"
        reason, message = "PodCompleted", ""
    elif phase == "Failed":
        reason, message = "PodFailed", ""
    else:
        reason, message = "ContainersNotReady", f"containers with unready status: {_list(unready)}"
    ready = not unready and phase == "Running"
    return [
        initialized,
        _condition("ContainersReady", ready, reason, message),
        _condition("Ready", ready, reason, message),
    ]


def _disruption(pod: PodState) -> list[Manifest]:
    # What a kubelet says of the pods that it ends with itself: a Job may make another one, and count no failure.
    if not pod.disrupted:
        return []
    condition: Manifest = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    return [{**condition, "message": "the node agent that ran this pod has ended"}]


def _condition(type_: str, holds: bool, reason: str, message: str) -> Manifest:
    condition: Manifest = {"type": type_, "status": "True" if holds else "False"}
    # Null, else a merge would keep the reason of the time before.
    condition["reason"] = None if holds else reason
    condition["message"] = None if holds or not message else message
    return condition


def _with_times(conditions: list[Manifest], previous: Sequence[Manifest], now: str) -> list[Manifest]:
    before: dict[Any, Manifest] = {condition["type"]: condition for condition in previous}
    for condition in conditions:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"]
        condition["lastTransitionTime"] = (old.get("lastTransitionTime") or now) if same else now
    return conditions


def _final(container: ContainerState, now: str) -> ContainerState:
    # What never ran, or was given up, has no result of its own.
    if isinstance(container.state, Terminated):
        return dataclasses.replace(container, ready=False, started=False)
    if container.last is not None and isinstance(container.state, Waiting):
        return dataclasses.replace(container, state=container.last, last=None, ready=False, started=False)
    started = container.state.started_at if isinstance(container.state, Running) else now
    message = "the container could not be located when the pod was terminated"
    ended = Terminated(KILLED, _STATUS_UNKNOWN, started, now, message, container.container_id)
    return dataclasses.replace(container, state=ended, ready=False, started=False)


def _initialized(inits: Sequence[ContainerState]) -> bool:
    return all(_succeeded(container) for container in inits)


def _succeeded(container: ContainerState) -> bool:
    return isinstance(container.state, Terminated) and container.state.exit_code == 0


def _list(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"
