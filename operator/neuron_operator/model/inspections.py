"""What an inspect Job is about, and what it has answered. Pure."""

from datetime import datetime

from neuron_operator.api.objects import labels_of
from neuron_operator.diagnosis.catalogue import POD_LOST
from neuron_operator.diagnosis.containers import Diagnosis
from neuron_operator.diagnosis.inspection import of_inspection
from neuron_runtime.contract.inspection import CompiledArtifact, InspectSpec
from neuron_runtime.contract.outcome import TerminationMessage

from .jobs import CompileJob, JobState, terminated_state
from .resources import names


def inspection_label(job: CompileJob) -> str:
    """What the Job inspects, as `inspection_of` names it; empty for a Job of another kind."""
    return labels_of(job.manifest).get(names.INSPECTION_LABEL, "")


def message_of(job: CompileJob) -> TerminationMessage | None:
    """What the Job's pod has left behind; None while that is not known."""
    terminated = terminated_state(job.pod) if job.pod is not None else None
    return TerminationMessage.decode(terminated.get("message") or "") if terminated is not None else None


def answer_of(job: CompileJob) -> TerminationMessage | None:
    """The facts that a Job has found; None for one that has not, or whose pod is gone with them."""
    message = message_of(job) if job.state is JobState.SUCCEEDED else None
    if message is None or (message.source is None and message.artifact is None):
        return None
    return message


def failure_of_inspection(job: CompileJob, spec: InspectSpec) -> Diagnosis:
    """Why an ended Job has no answer."""
    time = (job.manifest.get("status") or {}).get("completionTime")
    failure = job.diagnosis or Diagnosis(POD_LOST, "The inspect pod is gone, and its answer with it", time=time)
    return of_inspection(failure, brought=isinstance(spec.target, CompiledArtifact))


def seconds_since_end(job: CompileJob, now: datetime) -> float:
    """For how long a Job that succeeded has been over."""
    time = (job.manifest.get("status") or {}).get("completionTime")
    return (now - datetime.fromisoformat(time)).total_seconds() if time else 0.0
