"""What a serving Deployment and its pods say: available, starting, or in trouble and why. Pure."""

from dataclasses import dataclass
from typing import Any

from neuron_operator.api.conditions import Reason
from neuron_operator.api.objects import Manifest, uid_of
from neuron_operator.diagnosis.catalogue import RetryClass
from neuron_operator.diagnosis.containers import Diagnosis, diagnose_termination
from neuron_runtime.contract.outcome import FailureCode

_REPORTS = frozenset(
    code.value
    for code in (
        FailureCode.ARTIFACT_MISSING,
        FailureCode.ARTIFACT_DAMAGED,
        FailureCode.SOURCE_MISSING,
        FailureCode.SOURCE_DAMAGED,
    )
)
_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_COMPLETE = "NewReplicaSetAvailable"
_HOPEFUL_RESTARTS = 3
_IMAGE_REMEDY = "Make the platform settings cpu.compileImage and cpu.servingImage name images that nodes can pull"
_CONFIG_REMEDY = "kubectl describe pod says what the container lacks"
_NODE_REMEDY = "Add a node, or lower serving.resources.requests or compile.resources.requests"
_QUOTA_REMEDY = "Change the quota or policy that it names, or serving.resources"
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def ready_replicas(deployment: Manifest | None) -> int:
    """Serving pods that are ready."""
    return int(((deployment or {}).get("status") or {}).get("readyReplicas") or 0)


def existing_replicas(deployment: Manifest | None) -> int:
    """Serving pods that exist."""
    return int(((deployment or {}).get("status") or {}).get("replicas") or 0)


def is_available(deployment: Manifest) -> bool:
    """Whether all wanted replicas of the Deployment as it now stands are ready, and none of an older form is left."""
    status = deployment.get("status") or {}
    wanted = deployment["spec"]["replicas"]
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and int(status.get("updatedReplicas") or 0) >= wanted
        and int(status.get("readyReplicas") or 0) >= wanted
        and int(status.get("replicas") or 0) == int(status.get("updatedReplicas") or 0)
    )


def was_complete(deployment: Manifest | None) -> bool:
    """Whether all replicas of the Deployment's present form have been ready before, as the Deployment controller says.

    That stays so when some are lost, and when more are asked for.
    """
    conditions = ((deployment or {}).get("status") or {}).get("conditions") or []
    return any(found["type"] == "Progressing" and found.get("reason") == _COMPLETE for found in conditions)


@dataclass(frozen=True)
class Trouble:
    """Why a pod does not serve."""

    reason: Reason
    message: str
    needs_help: bool
    """Waiting alone will not mend it."""
    remedy: str
    diagnosis: Diagnosis | None = None


def trouble_of(deployment: Manifest, pods: list[Manifest]) -> Trouble | None:
    """The most telling trouble of a Deployment's pods; None while they are just starting."""
    found = [trouble for trouble in (_pod_trouble(pod) for pod in pods) if trouble is not None]
    refused = _refused_pods(deployment)
    if refused is not None and not pods:
        return refused
    return min(found, key=lambda trouble: (not trouble.needs_help, trouble.reason), default=refused)


def artifact_report(pods: list[Manifest]) -> str | None:
    """Names the latest report of a pod that artifact or source is missing or damaged; None when there is none.

    The same report always has the same name, so that one report leads to one look into the store.
    """
    reports = []
    for pod in pods:
        status = _container_status(pod)
        if status is None or status.get("ready"):
            continue
        diagnosis = _last_diagnosis(status)
        if diagnosis is not None and diagnosis.code in _REPORTS:
            # Not the count of restarts: it rises while the same report moves from `state` to `lastState`.
            reports.append(f"{diagnosis.time or ''}/{uid_of(pod)}")
    return max(reports, default=None)


def pod_waiting_trouble(pod: Manifest) -> Trouble | None:
    """Why a pod, of whatever purpose, does not get to run its container; None when nothing speaks against it."""
    container = _container_status(pod)
    if container is None:
        return _unschedulable(pod)
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    detail = waiting.get("message") or reason
    if reason in _IMAGE_REASONS:
        return Trouble(Reason.IMAGE_PULL_FAILED, f"The image cannot be pulled: {detail}", True, _IMAGE_REMEDY)
    if reason in _CONFIG_REASONS:
        return Trouble(Reason.CONTAINER_FAILING, f"The container cannot be created: {detail}", True, _CONFIG_REMEDY)
    return None


def _unschedulable(pod: Manifest) -> Trouble | None:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Trouble(
                Reason.UNSCHEDULABLE, f"No node takes the pod: {condition.get('message', '')}", False, _NODE_REMEDY
            )
    return None


def _pod_trouble(pod: Manifest) -> Trouble | None:
    container = _container_status(pod)
    if container is not None and container.get("ready"):
        return None
    waiting = pod_waiting_trouble(pod)
    if waiting is not None or container is None:
        return waiting
    diagnosis = _last_diagnosis(container)
    if diagnosis is None:
        return None
    reason = _REASONS.get(diagnosis.code, Reason.CONTAINER_FAILING)
    return Trouble(reason, diagnosis.message, _needs_help(diagnosis, container), diagnosis.remedy, diagnosis)


def _needs_help(diagnosis: Diagnosis, container: dict[str, Any]) -> bool:
    """The kubelet starts the container again: worth waiting for, unless the cause is sure to be met again."""
    if diagnosis.retry is RetryClass.TRANSIENT:
        return False
    if diagnosis.retry is RetryClass.BUG:
        # The count alone says little: it is of the pod's whole life, and a node that was restarted raises it, too.
        backs_off = ((container.get("state") or {}).get("waiting") or {}).get("reason") == "CrashLoopBackOff"
        return backs_off and int(container.get("restartCount") or 0) >= _HOPEFUL_RESTARTS
    return True


_REASONS = {
    FailureCode.ARTIFACT_DAMAGED.value: Reason.ARTIFACT_DAMAGED,
    FailureCode.ARTIFACT_MISSING.value: Reason.ARTIFACT_MISSING,
    FailureCode.ARTIFACT_INCOMPATIBLE.value: Reason.ARTIFACT_INCOMPATIBLE,
    FailureCode.SOURCE_DAMAGED.value: Reason.SOURCE_DAMAGED,
    FailureCode.SOURCE_MISSING.value: Reason.SOURCE_MISSING,
    FailureCode.STORE_ACCESS_DENIED.value: Reason.STORE_ACCESS_DENIED,
    FailureCode.STORE_BUCKET_NOT_FOUND.value: Reason.STORE_BUCKET_NOT_FOUND,
    FailureCode.STORE_UNREACHABLE.value: Reason.STORE_UNREACHABLE,
}


def _container_status(pod: Manifest) -> dict[str, Any] | None:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return statuses[0] if statuses else None


def _last_diagnosis(container: dict[str, Any]) -> Diagnosis | None:
    for field in ("state", "lastState"):
        terminated = (container.get(field) or {}).get("terminated")
        if terminated is not None:
            return diagnose_termination(terminated, serving=True)
    return None


def _refused_pods(deployment: Manifest) -> Trouble | None:
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Trouble(
                Reason.API_SERVER_REFUSED, f"Pods are refused: {condition.get('message', '')}", True, _QUOTA_REMEDY
            )
    return None
