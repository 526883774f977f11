"""What a compile Job and its pod say: live, succeeded or failed, and with what failure. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from neuron_operator.api.conditions import Reason
from neuron_operator.api.objects import Manifest, is_deleting, is_owned_by, labels_of, uid_of
from neuron_operator.diagnosis.catalogue import POD_LOST, POD_NEVER_RAN, TIMED_OUT
from neuron_operator.diagnosis.containers import Diagnosis, diagnose_termination

from .resources import names
from .resources.compile_job import attempt_of, failures_before
from .serving_state import Trouble, pod_waiting_trouble

_DEADLINE = "DeadlineExceeded"
_NEVER_STARTED = "ContainerStatusUnknown"
# A node that is added for the pod, or a quota that is about to be raised, takes a few minutes.
_HOPEFUL = timedelta(minutes=5)


class JobState(Enum):
    """Where a Job is."""

    LIVE = "live"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class CompileJob:
    """A compile Job as it was observed."""

    manifest: Manifest
    state: JobState
    attempt: int
    failures_before: int
    """Failures that counted against the attempts before this one."""
    diagnosis: Diagnosis | None
    """Why it failed; None unless it did."""
    pod: Manifest | None

    @property
    def name(self) -> str:
        """Name of the Job."""
        return str(self.manifest["metadata"]["name"])

    @property
    def uid(self) -> str:
        """UID of the Job."""
        return uid_of(self.manifest)

    @property
    def artifact_label(self) -> str:
        """Label value of the artifact that it makes."""
        return labels_of(self.manifest).get(names.ARTIFACT_LABEL, "")

    @property
    def created_at(self) -> datetime:
        """When the API server took it in."""
        return datetime.fromisoformat(self.manifest["metadata"]["creationTimestamp"])

    @property
    def started_at(self) -> str | None:
        """RFC 3339; None until the Job controller has seen it."""
        return (self.manifest.get("status") or {}).get("startTime")

    @property
    def has_started(self) -> bool:
        """Whether the pod's container has run, if only for a moment: the Job controller takes longer to say so."""
        return ((self.pod or {}).get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed")

    @property
    def pod_ip(self) -> str | None:
        """Address of the running pod."""
        status = (self.pod or {}).get("status") or {}
        if status.get("phase") != "Running":
            return None
        ip = status.get("podIP")
        return str(ip) if ip else None


def observe_job(manifest: Manifest, pods: list[Manifest]) -> CompileJob:
    """Read a Job together with those of the pods that are its own."""
    own = [pod for pod in pods if is_owned_by(pod, uid_of(manifest))]
    pod = max(own, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), default=None)
    state, diagnosis = _judge(manifest, pod)
    return CompileJob(manifest, state, attempt_of(manifest), failures_before(manifest), diagnosis, pod)


def standstill(job: CompileJob, now: datetime) -> Trouble | None:
    """Why a live Job has not got to run for some minutes; None while there is hope, and once it has run."""
    if job.state is not JobState.LIVE or is_deleting(job.manifest) or job.has_started:
        return None
    since = datetime.fromisoformat((job.pod or job.manifest)["metadata"]["creationTimestamp"])
    if now - since < _HOPEFUL:
        return None
    return pod_waiting_trouble(job.pod) if job.pod is not None else without_pod(job.name)


def without_pod(name: str) -> Trouble:
    """The trouble of a Job for which no pod can be made."""
    cause = f"Compile Job {name} gets no pod"
    remedy = (
        f"kubectl describe job {name} says why: a quota, an admission policy, or no ServiceAccount "
        f"{names.COMPILE_SERVICE_ACCOUNT}"
    )
    return Trouble(Reason.JOB_PENDING, cause, True, remedy)


def _judge(manifest: Manifest, pod: Manifest | None) -> tuple[JobState, Diagnosis | None]:
    if is_deleting(manifest):
        return JobState.LIVE, None
    conditions = {
        condition["type"]: condition
        for condition in (manifest.get("status") or {}).get("conditions") or []
        if condition["status"] == "True"
    }
    if "Complete" in conditions:
        return JobState.SUCCEEDED, None
    failed = conditions.get("Failed")
    if failed is None:
        return JobState.LIVE, None
    time = failed.get("lastTransitionTime")
    status = (pod or {}).get("status") or {}
    if status.get("reason") == _DEADLINE and _container_ran(pod or {}):
        return JobState.FAILED, Diagnosis(TIMED_OUT, "The compile took longer than compile.timeout allows", time=time)
    if _DEADLINE in (status.get("reason"), failed.get("reason")):
        return JobState.FAILED, Diagnosis(POD_NEVER_RAN, _why_not_run(pod), time=time)
    if pod is None:
        return JobState.FAILED, Diagnosis(POD_LOST, "The compile pod is gone", time=time)
    terminated = terminated_state(pod)
    if terminated is None:
        if status.get("phase") == "Failed":
            # A node refused or evicted the pod before its container had a state.
            why = status.get("message") or status.get("reason") or "no reason is given"
            return JobState.FAILED, Diagnosis(POD_LOST, f"The compile pod failed: {why}", time=time)
        # The watch of pods is behind the watch of Jobs: the pod's last word is still to come.
        return JobState.LIVE, None
    diagnosis = diagnose_termination(terminated)
    return JobState.FAILED, diagnosis or Diagnosis(POD_LOST, "The compile pod was ended from outside", time=time)


def _container_ran(pod: Manifest) -> bool:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        state = status.get("state") or {}
        # So the kubelet closes the account of a container that it never started.
        if "running" in state or ("terminated" in state and state["terminated"].get("reason") != _NEVER_STARTED):
            return True
    return False


def _why_not_run(pod: Manifest | None) -> str:
    trouble = pod_waiting_trouble(pod) if pod is not None else None
    if trouble is not None:
        return trouble.message
    return "The compile Job got no pod, or its pod was not started in time or was taken off its node again and again"


def terminated_state(pod: Manifest) -> dict[str, Any] | None:
    """`state.terminated` of a pod's only container."""
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        terminated = (status.get("state") or {}).get("terminated")
        if terminated is not None:
            return dict(terminated)
    return None
