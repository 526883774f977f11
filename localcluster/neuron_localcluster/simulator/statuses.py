"""What controllers and kubelets write, as plain manifests. Pure."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from neuron_localcluster.node.clock import seconds_text
from neuron_localcluster.node.state import Manifest
from neuron_localcluster.simulator.end import ContainerEnd

NODE = "simulated"
"""The node that pods are bound to. It does not exist."""

_ADDRESS = "127.77.250.1"


def is_deleting(manifest: Manifest) -> bool:
    return "deletionTimestamp" in manifest["metadata"]


def has_ended(job: Manifest) -> bool:
    """Whether a Job is complete or has failed."""
    conditions = job.get("status", {}).get("conditions") or []
    return any(found["type"] in ("Complete", "Failed") and found["status"] == "True" for found in conditions)


def controller_of(manifest: Manifest) -> str | None:
    """UID of the owner that is its controller."""
    references = manifest["metadata"].get("ownerReferences") or []
    return next((reference["uid"] for reference in references if reference.get("controller")), None)


def template_hash(owner: Manifest) -> str:
    """Names the form of a Deployment's pod template, as `pod-template-hash` does."""
    text = json.dumps(owner["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def pod(owner: Manifest, api_version: str, kind: str, name: str, labels: dict[str, str]) -> Manifest:
    """A pod of a Job or Deployment, bound to NODE. Owners in between are left out."""
    template, metadata = owner["spec"]["template"], owner["metadata"]
    of_template = template.get("metadata") or {}
    reference = {
        "apiVersion": api_version,
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {**(of_template.get("labels") or {}), **labels},
            "annotations": of_template.get("annotations") or {},
            "ownerReferences": [reference],
        },
        "spec": {**template["spec"], "nodeName": NODE},
    }


def running(pod_: Manifest, moment: datetime, *, ready: bool) -> Manifest:
    """Status of a pod whose containers run."""
    state = {"running": {"startedAt": seconds_text(moment)}}
    return _pod_status(pod_, "Running", moment, {"ready": ready, "started": True, "state": state})


def ended(pod_: Manifest, end: ContainerEnd, started: datetime, moment: datetime) -> Manifest:
    """Status of a pod whose containers have ended and are not started again."""
    phase = "Succeeded" if end.succeeded else "Failed"
    return _pod_status(pod_, phase, started, {"ready": False, "state": _terminated(end, started, moment)})


def crashing(pod_: Manifest, end: ContainerEnd, moment: datetime) -> Manifest:
    """Status of a pod whose containers have ended and wait to be started again."""
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
    container = {
        "ready": False,
        "started": False,
        "restartCount": 1,
        "state": waiting,
        "lastState": _terminated(end, moment, moment),
    }
    return _pod_status(pod_, "Running", moment, container)


def job_running(moment: datetime) -> Manifest:
    """Status of a Job whose pod runs."""
    return {"startTime": seconds_text(moment), "active": 1, "ready": 1}


def job_ended(end: ContainerEnd, started: str, moment: datetime) -> Manifest:
    """Status of a Job with `backoffLimit: 0` whose pod has ended."""
    time = seconds_text(moment)
    done = {"startTime": started, "active": 0, "ready": 0, "uncountedTerminatedPods": {}}
    if end.succeeded:
        conditions = [_condition(name, "CompletionsReached", time) for name in ("SuccessCriteriaMet", "Complete")]
        return {**done, "succeeded": 1, "completionTime": time, "conditions": conditions}
    message = "Job has reached the specified backoff limit"
    conditions = [_condition(name, "BackoffLimitExceeded", time, message) for name in ("FailureTarget", "Failed")]
    return {**done, "failed": 1, "conditions": conditions}


def deployment_status(deployment: Manifest, moment: datetime, *, ready: bool) -> Manifest:
    """Status of a Deployment all of whose pods are of its present form, and ready or not."""
    replicas = _replicas(deployment)
    answering = replicas if ready else 0
    time = seconds_text(moment)
    reason = "NewReplicaSetAvailable" if ready else "ReplicaSetUpdated"
    available = _condition("Available", "MinimumReplicasAvailable", time)
    if not ready:
        available |= {"status": "False", "reason": "MinimumReplicasUnavailable"}
    # A JSON merge patch: null takes away what is zero, as the controller leaves it out.
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": replicas or None,
        "updatedReplicas": replicas or None,
        "readyReplicas": answering or None,
        "availableReplicas": answering or None,
        "unavailableReplicas": replicas - answering or None,
        "conditions": [_condition("Progressing", reason, time), available],
    }


def is_settled(deployment: Manifest) -> bool:
    """Whether the status says of the Deployment's present form that all its replicas are ready."""
    status, replicas = deployment.get("status") or {}, _replicas(deployment)
    counts = (status.get(name) or 0 for name in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"))
    return status.get("observedGeneration") == deployment["metadata"]["generation"] and all(
        count == replicas for count in counts
    )


def _replicas(deployment: Manifest) -> int:
    return int(deployment["spec"].get("replicas", 1))


def _pod_status(pod_: Manifest, phase: str, moment: datetime, container: dict[str, Any]) -> Manifest:
    ready = "True" if container["ready"] else "False"
    return {
        "phase": phase,
        "startTime": seconds_text(moment),
        "podIP": _ADDRESS,
        "podIPs": [{"ip": _ADDRESS}],
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "ContainersReady", "status": ready},
            {"type": "Ready", "status": ready},
        ],
        "containerStatuses": [
            {"restartCount": 0, "imageID": spec["image"], **container, "name": spec["name"], "image": spec["image"]}
            for spec in pod_["spec"]["containers"]
        ],
    }


def _terminated(end: ContainerEnd, started: datetime, moment: datetime) -> Manifest:
    state: Manifest = {
        "exitCode": end.exit_code,
        "reason": end.reason,
        "startedAt": seconds_text(started),
        "finishedAt": seconds_text(moment),
    }
    return {"terminated": state | ({"message": end.message} if end.message else {})}


def _condition(kind: str, reason: str, time: str, message: str = "") -> Manifest:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": time,
    }
