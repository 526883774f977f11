"""Pods that a node has taken, and whose container is not created. Pure.

A volume, Secret, ConfigMap or claim that is missing keeps a pod so for ever. It fails nothing, and of all that only
events tell, which the operator does not read.
"""

from datetime import datetime
from typing import Any

from neuron_operator.api.objects import Manifest

# Beyond this a pod is worth a word. A large image takes longer, which is no harm to say.
_PATIENCE_SECONDS = 60.0
_CREATING = ("ContainerCreating", "PodInitializing")


def seconds_to_create(pods: list[Manifest], now: datetime) -> float | None:
    """For how long a pod's container may still be on its way before somebody should look; never below zero.

    None when all are created, or no node has taken the others.
    """
    waited = [(now - since).total_seconds() for since in map(_creating_since, pods) if since is not None]
    return max(0.0, _PATIENCE_SECONDS - max(waited)) if waited else None


def slow_to_create(pods: list[Manifest], now: datetime) -> str | None:
    """What to say of a pod whose container has been on its way for too long."""
    for pod in pods:
        since = _creating_since(pod)
        if since is not None and (now - since).total_seconds() >= _PATIENCE_SECONDS:
            name = pod["metadata"]["name"]
            return (
                f"The container of pod {name} is not created yet. kubectl describe pod {name} says what it waits for: "
                "a Secret, ConfigMap, claim or other volume that is missing, or a large image"
            )
    return None


def _creating_since(pod: Manifest) -> datetime | None:
    status: dict[str, Any] = pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    if containers and ((containers[0].get("state") or {}).get("waiting") or {}).get("reason") not in _CREATING:
        return None
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "True":
            since = condition.get("lastTransitionTime")
            return datetime.fromisoformat(since) if since else None
    return None
