"""Has a source looked at by a Job, where the operator has no right to, or no way."""

from datetime import datetime

from neuron_operator.api.conditions import Reason
from neuron_operator.api.objects import is_deleting
from neuron_operator.api.status import LastFailure, WaitingFor
from neuron_operator.diagnosis.containers import Diagnosis
from neuron_operator.model.inspections import (
    answer_of,
    failure_of_inspection,
    inspection_label,
    message_of,
    seconds_since_end,
)
from neuron_operator.model.jobs import CompileJob, JobState
from neuron_operator.model.policies import GiveUp, RetryLater, RetryNow, retry
from neuron_operator.model.resources.inspect_job import inspect_job, inspect_spec, inspection_of
from neuron_operator.model.scope import Scope
from neuron_operator.model.serving_state import pod_waiting_trouble
from neuron_operator.model.steps import Continue, Fail, Step, Wait, as_cause
from neuron_operator.model.tools import Tools
from neuron_runtime.contract.inspection import InspectSpec
from neuron_runtime.contract.outcome import FailureCode, TerminationMessage

from .identities import apply_identities
from .waiting import wait_for_help

# The watch of pods may be behind that of Jobs.
_ANSWER_SECONDS = 30.0
# Image, volumes and scheduling take less, as a rule.
_START_SECONDS = 60.0

_REASONS = {
    FailureCode.SOURCE_NOT_FOUND.value: Reason.NOT_FOUND,
    FailureCode.SOURCE_ACCESS_DENIED.value: Reason.ACCESS_DENIED,
    FailureCode.SOURCE_TOKEN_MISSING.value: Reason.TOKEN_MISSING,
    FailureCode.SOURCE_RATE_LIMITED.value: Reason.RATE_LIMITED,
    FailureCode.SOURCE_UNREACHABLE.value: Reason.UNREACHABLE,
    FailureCode.SOURCE_INCOMPLETE.value: Reason.UNSUPPORTED_FORMAT,
    FailureCode.SOURCE_UNSAFE.value: Reason.UNSAFE_SOURCE,
    FailureCode.SOURCE_MISSING.value: Reason.SOURCE_MISSING,
    FailureCode.SOURCE_DAMAGED.value: Reason.SOURCE_DAMAGED,
    FailureCode.UNSUPPORTED_MODEL.value: Reason.UNSUPPORTED_FORMAT,
    FailureCode.ARTIFACT_MISSING.value: Reason.ARTIFACT_MISSING,
    FailureCode.ARTIFACT_DAMAGED.value: Reason.ARTIFACT_DAMAGED,
    FailureCode.ARTIFACT_INCOMPATIBLE.value: Reason.ARTIFACT_INCOMPATIBLE,
    FailureCode.STORE_ACCESS_DENIED.value: Reason.STORE_ACCESS_DENIED,
    FailureCode.STORE_BUCKET_NOT_FOUND.value: Reason.STORE_BUCKET_NOT_FOUND,
    FailureCode.STORE_UNREACHABLE.value: Reason.STORE_UNREACHABLE,
}


async def inspect(scope: Scope, tools: Tools) -> TerminationMessage | Step:
    """The facts of the model's source, or why there are none yet."""
    try:
        spec = inspect_spec(scope.model)
    except ValueError as error:
        remedy = "Copy model.compiledArtifact.uri and digest from status.artifact of the model that compiled it"
        return Fail(Reason.INVALID_SPEC, f"{error}", remedy)
    wanted = inspection_of(spec)
    own = [job for job in scope.observed.inspections if inspection_label(job) == wanted]
    # The newest alone is the state of the retries, and only of what is asked now.
    for job in scope.observed.inspections:
        if job not in own[-1:]:
            await tools.children.delete(job.manifest)
    if not own:
        return await _start(scope, tools, spec, attempt=1, failures=0)
    job = own[-1]
    if job.state is JobState.LIVE:
        return _follow(job, tools)
    answer = answer_of(job)
    if answer is not None:
        return answer
    if job.state is JobState.SUCCEEDED and seconds_since_end(job, tools.clock()) < _ANSWER_SECONDS:
        return Wait(Reason.INSPECTING, f"Job {job.name} has ended; its answer is awaited", after=_ANSWER_SECONDS)
    return await _after_failure(scope, tools, spec, job)


async def delete_inspections(scope: Scope, tools: Tools) -> Step:
    """Delete inspect Jobs. Only reached once what they have found is recorded."""
    for job in scope.observed.inspections:
        await tools.children.delete(job.manifest)
    return Continue()


async def _start(scope: Scope, tools: Tools, spec: InspectSpec, *, attempt: int, failures: int) -> Step:
    identified = await apply_identities(scope, tools)
    if not isinstance(identified, Continue):
        return identified
    job = inspect_job(scope.model, spec, tools.settings, attempt=attempt, failures=failures)
    created = await tools.children.create(job)
    return Wait(Reason.INSPECTING, f"Job {created['metadata']['name']} was created to inspect the source")


def _follow(job: CompileJob, tools: Tools) -> Step:
    if is_deleting(job.manifest):
        return Wait(Reason.INSPECTING, f"Job {job.name} is being deleted")
    if job.has_started:
        return Wait(Reason.INSPECTING, f"Job {job.name} inspects the source")
    trouble = pod_waiting_trouble(job.pod) if job.pod is not None else None
    if trouble is not None:
        return wait_for_help(trouble.reason, trouble, f" (Job {job.name})")
    left = _START_SECONDS - (tools.clock() - job.created_at).total_seconds()
    if left > 0:
        return Wait(Reason.INSPECTING, f"Job {job.name} waits for its pod to run", after=left)
    message = (
        f"The pod of Job {job.name} does not get to run. kubectl describe job {job.name} and its pod say why: a quota, "
        "a ServiceAccount, or a claim or ConfigMap that is missing"
    )
    waiting_for = WaitingFor(reason=Reason.INSPECTING.value, message=message)
    return Wait(Reason.INSPECTING, message, waiting_for=waiting_for)


async def _after_failure(scope: Scope, tools: Tools, spec: InspectSpec, job: CompileJob) -> Step:
    failure, now = failure_of_inspection(job, spec), tools.clock()
    decision = retry(
        failure,
        attempt=job.attempt,
        failures_before=job.failures_before,
        max_attempts=scope.model.spec.compile.retry.max_attempts,
        now=now,
    )
    asked_for = _asked_pause(job)
    if asked_for is not None and isinstance(decision, RetryNow | RetryLater):
        asked_at = datetime.fromisoformat(failure.time) if failure.time else job.created_at
        left = asked_for - (now - asked_at).total_seconds()
        decision = RetryLater(left) if left > 0 else RetryNow(job.failures_before)
    if isinstance(decision, RetryNow):
        return await _start(scope, tools, spec, attempt=job.attempt + 1, failures=decision.failures)
    scope.failure = _last_failure(failure, job, decision)
    reason = _REASONS.get(failure.code, Reason.INSPECTION_FAILED)
    if isinstance(decision, RetryLater):
        message = f"{as_cause(failure.message)}. {failure.remedy}. It is tried again by itself"
        return Wait(reason, message, after=decision.after, waiting_for=WaitingFor(reason=reason.value, message=message))
    again = "It is tried again every few minutes; deleting" if decision.after is not None else "Deleting"
    tail = "tries at once" if decision.after is not None else "tries again"
    remedy = f"{failure.remedy}. {again} Job {job.name} {tail}"
    return Fail(reason, failure.message, remedy, after=decision.after)


def _asked_pause(job: CompileJob) -> int | None:
    message = message_of(job)
    return message.retry_after_seconds if message is not None else None


def _last_failure(failure: Diagnosis, job: CompileJob, decision: GiveUp | RetryLater) -> LastFailure:
    return LastFailure(
        stage="Resolve",
        code=failure.code,
        message=failure.message,
        remedy=failure.remedy,
        retryable=decision.after is not None,
        attempt=job.attempt,
        exit_code=failure.exit_code,
        time=failure.time,
        log_tail=failure.log_tail,
    )
