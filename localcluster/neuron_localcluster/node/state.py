"""What is known of a container, and how the API writes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]

KILLED = 137
"""Exit code of a process that was ended by SIGKILL."""


@dataclass(frozen=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    started_at: str


@dataclass(frozen=True)
class Terminated:
    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    message: str = ""
    container_id: str = ""


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class ContainerState:
    """One container; `last` is how the run before this one ended."""

    name: str
    image: str
    state: State
    last: Terminated | None = None
    restarts: int = 0
    started: bool = False
    ready: bool = False
    container_id: str = ""


def to_status(container: ContainerState) -> Manifest:
    """The container as an entry of `status.containerStatuses`."""
    status: Manifest = {
        "name": container.name,
        "image": container.image,
        "imageID": container.image if container.container_id else "",
        "ready": container.ready,
        "started": container.started,
        "restartCount": container.restarts,
        "state": _state_to_status(container.state),
        "lastState": _state_to_status(container.last) if container.last else {},
    }
    if container.container_id:
        status["containerID"] = container.container_id
    return status


def from_status(status: Mapping[str, Any]) -> ContainerState:
    """The container of an entry of `status.containerStatuses`."""
    last = _state_from_status(status.get("lastState") or {})
    return ContainerState(
        name=status["name"],
        image=status["image"],
        state=_state_from_status(status.get("state") or {}),
        last=last if isinstance(last, Terminated) else None,
        restarts=status.get("restartCount", 0),
        started=bool(status.get("started")),
        ready=bool(status.get("ready")),
        container_id=status.get("containerID", ""),
    )


def after_lost_agent(container: ContainerState, moment: str) -> ContainerState:
    """The container once the agent that ran it has gone: what ran was killed, what had not started starts anew."""
    if not isinstance(container.state, Running):
        return container
    ended = Terminated(
        exit_code=KILLED,
        reason="Error",
        message="the node agent that ran this container has ended",
        started_at=container.state.started_at,
        finished_at=moment,
        container_id=container.container_id,
    )
    return ContainerState(
        name=container.name,
        image=container.image,
        state=ended,
        last=container.last,
        restarts=container.restarts,
        container_id=container.container_id,
    )


def _state_to_status(state: State) -> Manifest:
    if isinstance(state, Waiting):
        return {"waiting": _without_empty({"reason": state.reason, "message": state.message})}
    if isinstance(state, Running):
        return {"running": {"startedAt": state.started_at}}
    fields = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "message": state.message,
        "startedAt": state.started_at,
        "finishedAt": state.finished_at,
        "containerID": state.container_id,
    }
    return {"terminated": _without_empty(fields)}


def _state_from_status(status: Mapping[str, Any]) -> State:
    if running := status.get("running"):
        return Running(running["startedAt"])
    if ended := status.get("terminated"):
        return Terminated(
            exit_code=ended["exitCode"],
            reason=ended.get("reason", ""),
            message=ended.get("message", ""),
            started_at=ended.get("startedAt", ""),
            finished_at=ended.get("finishedAt", ""),
            container_id=ended.get("containerID", ""),
        )
    waiting = status.get("waiting") or {}
    return Waiting(waiting.get("reason", "ContainerCreating"), waiting.get("message", ""))


def _without_empty(fields: Manifest) -> Manifest:
    return {key: value for key, value in fields.items() if value != ""}
