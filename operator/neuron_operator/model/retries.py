"""Applies the retry policy to a model's own compile Job. Pure."""

from datetime import datetime

from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.diagnosis.containers import Diagnosis
from neuron_runtime.contract.outcome import FailureCode

from .jobs import CompileJob
from .policies import GiveUp, RetryLater, RetryNow, retry
from .resources.compile_job import settings_digest, settings_digest_of


def failure_of(job: CompileJob) -> Diagnosis:
    """Why an ended Job did not lead to an artifact. One that succeeded and left none behind has failed as well."""
    if job.diagnosis is not None:
        return job.diagnosis
    time = (job.manifest.get("status") or {}).get("completionTime")
    return Diagnosis(
        FailureCode.ARTIFACT_MISSING.value, "The compile Job succeeded, but the artifact is not in the store", time=time
    )


def next_attempt(model: NeuronModel, job: CompileJob, now: datetime) -> RetryNow | RetryLater | GiveUp:
    """What follows the model's newest Job, which has ended.

    A user who gave the compile more time or memory after it failed wants another attempt: its count starts anew.
    """
    decision = retry(
        failure_of(job),
        attempt=job.attempt,
        failures_before=job.failures_before,
        max_attempts=model.spec.compile.retry.max_attempts,
        now=now,
    )
    if isinstance(decision, GiveUp) and settings_digest_of(job.manifest) != settings_digest(model):
        return RetryNow(failures=0)
    return decision
