"""Has the artifact compiled: at most one Job at a time for it, by the model that holds the flight."""

from datetime import datetime

from neuron_operator.api.conditions import Reason
from neuron_operator.api.objects import is_deleting
from neuron_operator.api.status import CompileStatus, LastFailure, WaitingFor
from neuron_operator.diagnosis.catalogue import TIMED_OUT
from neuron_operator.diagnosis.containers import Diagnosis
from neuron_operator.model.flight import claims, failures_of_settings, live_job, running_job
from neuron_operator.model.jobs import CompileJob, JobState, without_pod
from neuron_operator.model.policies import GiveUp, RetryLater, holder, progress_to_show
from neuron_operator.model.resources.compile_job import compile_job, settings_digest, settings_digest_of
from neuron_operator.model.retries import failure_of, next_attempt
from neuron_operator.model.revision import Revision
from neuron_operator.model.scope import Scope
from neuron_operator.model.serving_state import pod_waiting_trouble
from neuron_operator.model.starting import seconds_to_create, slow_to_create
from neuron_operator.model.steps import Continue, Fail, Step, Wait, as_cause
from neuron_operator.model.tools import Tools

from .waiting import claim_of, wait_for_help, wait_for_holder

_PROGRESS_SECONDS = 10.0
# The Job controller makes a pod within seconds.
_POD_SECONDS = 60.0
_KEPT_FAILED_JOBS = 3


async def cancel_superseded(scope: Scope, tools: Tools) -> Step:
    """Delete Jobs and Deployments of past specs, unless another model waits for the Job, or the Deployment serves.

    The newest failed Jobs of the wanted artifact stay: they are the state of the retries, and their logs can be read.
    """
    revision = scope.revision
    assert revision is not None  # noqa: S101 - record_revision went before
    wanted = scope.observed.jobs_of(revision)
    superseded = [job for job in scope.observed.jobs if job not in wanted and not _wanted_by_others(job, scope, tools)]
    failed = [job for job in wanted if job.state is JobState.FAILED]
    for job in superseded + failed[:-_KEPT_FAILED_JOBS]:
        await tools.children.delete(job.manifest)
    for hash_, deployment in scope.observed.deployments.items():
        if hash_ not in (scope.observed.active, scope.observed.target):
            await tools.children.delete(deployment)
    return Continue()


async def compile_artifact(scope: Scope, tools: Tools) -> Step:
    """Wait for the artifact, starting a Job where that is up to this model."""
    if scope.artifact is not None:
        return Continue()
    revision = scope.revision
    assert revision is not None  # noqa: S101 - record_revision went before
    own = scope.observed.jobs_of(revision)
    newest = own[-1] if own else None
    scope.compile = _compile_status(scope, newest) if newest is not None else None
    failed = _newest_failure(own)
    if failed is not None:
        scope.failure = _last_failure(scope, tools, failed)
    if newest is not None and newest.state is JobState.LIVE:
        return await _follow(scope, tools, newest)
    return await _start(scope, tools, revision, newest)


async def _follow(scope: Scope, tools: Tools, job: CompileJob) -> Step:
    """Wait for a Job that runs, and show how far it is."""
    if is_deleting(job.manifest):
        return Wait(Reason.JOB_PENDING, f"Compile Job {job.name} is being deleted")
    if not job.has_started:
        overtaken = await _give_way(scope, tools, job)
        if overtaken is not None:
            return overtaken
    if job.pod_ip is None and job.has_started:
        return Wait(Reason.JOB_RUNNING, f"Compile Job {job.name} has run; its result is awaited")
    if job.pod is None:
        return _without_pod(job, tools.clock())
    if job.pod_ip is None:
        trouble = pod_waiting_trouble(job.pod)
        if trouble is not None:
            return wait_for_help(trouble.reason, trouble, f" (compile Job {job.name})")
        slow = slow_to_create([job.pod], tools.clock())
        if slow is not None:
            return Wait(Reason.JOB_PENDING, slow, waiting_for=WaitingFor(reason=Reason.JOB_PENDING.value, message=slow))
        left = seconds_to_create([job.pod], tools.clock())
        return Wait(Reason.JOB_PENDING, f"Compile Job {job.name} waits for its pod to run", after=left)
    memory = tools.memory(scope.model)
    shown = progress_to_show(memory.shown_progress.get(job.uid), await tools.progress.read(job.pod_ip), tools.clock())
    if shown is None:
        return Wait(Reason.JOB_RUNNING, f"Compile Job {job.name} runs", after=_PROGRESS_SECONDS)
    memory.shown_progress = {job.uid: shown}
    progress = shown.progress
    scope.compile = _compile_status(scope, job).model_copy(
        update={
            "stage": progress.stage.value,
            "percent": progress.percent,
            "eta_seconds": round(progress.eta_seconds) if progress.eta_seconds is not None else None,
        }
    )
    message = f"Compile Job {job.name}: {progress.stage.value}, {progress.percent} %"
    return Wait(Reason.JOB_RUNNING, message, after=_PROGRESS_SECONDS)


async def _give_way(scope: Scope, tools: Tools, job: CompileJob) -> Step | None:
    """Take a Job away that has not begun, if another works on the artifact, or the spec gives it something else."""
    revision = scope.revision
    assert revision is not None  # noqa: S101 - record_revision went before
    running = running_job(revision, tools.snapshot)
    if running is not None:
        await tools.children.delete(job.manifest)
        return wait_for_holder(claim_of(running), scope.model.key)
    if settings_digest_of(job.manifest) != settings_digest(scope.model):
        await tools.children.delete(job.manifest)
        return Wait(Reason.JOB_PENDING, f"Compile Job {job.name} makes room for one with what compile now says")
    return None


def _without_pod(job: CompileJob, now: datetime) -> Step:
    """No event tells that the Job controller is not allowed to make the pod."""
    remaining = _POD_SECONDS - (now - job.created_at).total_seconds()
    if remaining > 0:
        return Wait(Reason.JOB_PENDING, f"Compile Job {job.name} waits for its pod", after=remaining)
    return wait_for_help(Reason.JOB_PENDING, without_pod(job.name))


async def _start(scope: Scope, tools: Tools, revision: Revision, newest: CompileJob | None) -> Step:
    """Create the next Job, if this model holds the flight and a pause is over."""
    attempt, failures = 1, 0
    if newest is not None:
        match next_attempt(scope.model, newest, tools.clock()):
            case GiveUp(after):
                return _gave_up(failure_of(newest), newest, after)
            case RetryLater(after):
                what = failure_of(newest)
                cause = as_cause(what.message)
                message = f"Attempt {newest.attempt} failed ({what.code}): {cause}. The next one follows"
                return Wait(Reason.RETRY_PENDING, message, after=after)
            case retry_now:
                attempt, failures = newest.attempt + 1, retry_now.failures
    # Between a look at the claims and the answer to the create, no other model may look: it would not see the Job.
    async with tools.flight_lock(revision.record.artifact_digest):
        shared = live_job(revision, tools.snapshot, tools.clock())
        if shared is not None:
            return wait_for_holder(claim_of(shared), scope.model.key)
        found = claims(revision, tools.snapshot, tools.clock(), tools.is_refused)
        failed = failures_of_settings(revision, tools.snapshot, tools.clock())
        flight = holder(found, failed) or failed.get(settings_digest(scope.model))
        if flight is not None and flight.key != scope.model.key:
            return wait_for_holder(flight, scope.model.key)
        job = compile_job(scope.model, revision, tools.settings, attempt=attempt, failures=failures)
        created = await tools.children.create(job)
        tools.memory(scope.model).refused = False
    name = created["metadata"]["name"]
    scope.compile = CompileStatus(job=name, attempt=attempt, max_attempts=scope.model.spec.compile.retry.max_attempts)
    return Wait(Reason.JOB_PENDING, f"Compile Job {name} was created")


def _gave_up(diagnosis: Diagnosis, job: CompileJob, after: float | None) -> Fail:
    reason = Reason.TIMED_OUT if diagnosis.code == TIMED_OUT else Reason.COMPILE_FAILED
    cause = f"Attempt {job.attempt} failed ({diagnosis.code}): {diagnosis.message}"
    if after is None:
        return Fail(reason, cause, f"{diagnosis.remedy}. Deleting Job {job.name} tries again")
    remedy = f"{diagnosis.remedy}. It is tried again every few minutes; deleting Job {job.name} tries at once"
    return Fail(reason, cause, remedy, after=after)


def _wanted_by_others(job: CompileJob, scope: Scope, tools: Tools) -> bool:
    """Whether another model waits for what this model's Job makes."""
    revision = next(
        (revision for revision in scope.observed.revisions.values() if job in scope.observed.jobs_of(revision)), None
    )
    if revision is None:
        return False
    found = claims(revision, tools.snapshot, tools.clock(), tools.is_refused)
    return any(claim.key != scope.model.key for claim in found)


def _newest_failure(jobs: list[CompileJob]) -> CompileJob | None:
    ended = [job for job in jobs if job.state is not JobState.LIVE]
    return ended[-1] if ended else None


def _compile_status(scope: Scope, job: CompileJob) -> CompileStatus:
    maximum = scope.model.spec.compile.retry.max_attempts
    return CompileStatus(job=job.name, attempt=job.attempt, max_attempts=maximum, started_at=job.started_at)


def _last_failure(scope: Scope, tools: Tools, job: CompileJob) -> LastFailure:
    diagnosis = failure_of(job)
    decision = next_attempt(scope.model, job, tools.clock())
    return LastFailure(
        stage="Compile",
        code=diagnosis.code,
        message=diagnosis.message,
        remedy=diagnosis.remedy,
        retryable=not isinstance(decision, GiveUp) or decision.after is not None,
        attempt=job.attempt,
        exit_code=diagnosis.exit_code,
        time=diagnosis.time,
        log_tail=diagnosis.log_tail,
    )
