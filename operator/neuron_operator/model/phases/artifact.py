"""Looks the revision's artifact up in the store, at the moments when the answer can have changed.

That is before a compile starts, after one ended, after a server reported that the artifact is gone or damaged, and
once a day; never just because a reconcile runs. That a Deployment was made for the revision is evidence that the
artifact was found.
"""

import random
from datetime import datetime, timedelta

from neuron_operator.api.conditions import Reason
from neuron_operator.api.status import ArtifactStatus, WaitingFor
from neuron_operator.aws import artifacts as store_errors
from neuron_operator.model.flight import live_job, outcomes
from neuron_operator.model.jobs import JobState
from neuron_operator.model.policies import RetryLater
from neuron_operator.model.retries import next_attempt
from neuron_operator.model.revision import Revision
from neuron_operator.model.scope import Scope
from neuron_operator.model.serving_state import artifact_report
from neuron_operator.model.steps import Continue, Fail, Step, Wait, as_cause
from neuron_operator.model.tools import Memory, Miss, Tools
from neuron_runtime.contract.artifact import ArtifactManifest

_STORE_PAUSE_SECONDS = 15.0
# Buckets and rights change without a change of the spec.
_LOOK_AGAIN_SECONDS = 60.0
# Another cluster may compile into the same bucket.
_MISS = timedelta(hours=1)
_AUDIT = timedelta(hours=24)
_AUDIT_AGAIN = timedelta(hours=1)


async def look_up_artifact(scope: Scope, tools: Tools) -> Step:
    """Find out whether the artifact is there."""
    revision = scope.revision
    assert revision is not None  # noqa: S101 - record_revision went before
    memory, now = tools.memory(scope.model), tools.clock()
    if revision.record.artifact is not None:
        # It lies where a tenant said: only pods read it, with rights of their own.
        scope.artifact, memory.audit_at = revision.record.artifact, None
        return Continue()
    report = artifact_report(scope.observed.pods_of(revision.hash))
    known, scope.artifact = scope.artifact, None
    is_audit = known is not None and memory.miss is None and report in (None, memory.answered_report)
    if is_audit and not _audit_is_due(memory, now):
        scope.artifact = known
        return Continue()
    if not is_audit and not _may_have_changed(scope, tools, revision):
        return Continue()
    found = await _find(tools, revision)
    if isinstance(found, Wait | Fail):
        if not is_audit or found.reason is Reason.ARTIFACT_DAMAGED:
            return found
        # Nothing is known to be wrong with what serves.
        scope.artifact, memory.audit_at = known, now + _AUDIT_AGAIN
        return Continue()
    memory.audit_at = now + _AUDIT * random.uniform(0.9, 1.1)  # noqa: S311 - no secret is made of it
    if found is None:
        memory.miss = Miss(now, outcomes(revision, tools.snapshot))
        return Continue()
    if any(job.state is JobState.SUCCEEDED for job in scope.observed.jobs_of(revision)):
        memory.compiled = found.digest
    compiled_here = memory.compiled == found.digest or (known is not None and known.reused is False)
    scope.artifact = _facts(found, revision, compiled_here=compiled_here)
    memory.miss, memory.answered_report = None, report
    return Continue()


def _audit_is_due(memory: Memory, now: datetime) -> bool:
    if memory.audit_at is None:
        memory.audit_at = now + _AUDIT * random.random()  # noqa: S311 - no secret is made of it
    return now >= memory.audit_at


async def _find(tools: Tools, revision: Revision) -> ArtifactManifest | Wait | Fail | None:
    try:
        return await tools.artifacts.find(revision.record.store, revision.record.artifact_digest)
    except store_errors.CredentialsRejected as error:
        return Fail(
            Reason.STORE_ACCESS_DENIED,
            f"{error}",
            "Give the operator credentials: chart value serviceAccount.annotations (IRSA), or EKS Pod Identity",
            after=_LOOK_AGAIN_SECONDS,
        )
    except store_errors.StoreAccessDenied as error:
        return Fail(
            Reason.STORE_ACCESS_DENIED,
            f"{error}",
            "Grant the operator s3:GetObject and s3:ListBucket on artifactStore.s3.bucket",
            after=_LOOK_AGAIN_SECONDS,
        )
    except store_errors.BucketNotFound as error:
        return Fail(
            Reason.STORE_BUCKET_NOT_FOUND,
            f"{error}",
            "Create it, or set artifactStore.s3.bucket to one that exists",
            after=_LOOK_AGAIN_SECONDS,
        )
    except store_errors.ManifestUnreadable as error:
        return Fail(
            Reason.ARTIFACT_DAMAGED,
            f"{error}",
            "Delete it; the artifact is then compiled again",
            after=_LOOK_AGAIN_SECONDS,
        )
    except store_errors.StoreUnreachable as error:
        message = f"{as_cause(f'{error}')}. Check that the operator reaches the S3 endpoint of artifactStore.s3.region"
        return Wait(
            Reason.STORE_UNREACHABLE,
            message,
            after=_STORE_PAUSE_SECONDS,
            waiting_for=WaitingFor(reason=Reason.STORE_UNREACHABLE.value, message=message),
        )


def _may_have_changed(scope: Scope, tools: Tools, revision: Revision) -> bool:
    if live_job(revision, tools.snapshot, tools.clock()) is not None:
        return False
    miss = tools.memory(scope.model).miss
    if miss is not None and tools.clock() < miss.time + _MISS and miss.outcomes == outcomes(revision, tools.snapshot):
        return False
    own = scope.observed.jobs_of(revision)
    if not own or own[-1].state is not JobState.FAILED:
        return True
    # After a failure that ends this model's attempts the store is still asked: another model may have compiled since.
    return not isinstance(next_attempt(scope.model, own[-1], tools.clock()), RetryLater)


def _facts(manifest: ArtifactManifest, revision: Revision, *, compiled_here: bool) -> ArtifactStatus:
    store, digest = revision.record.store, revision.record.artifact_digest
    return ArtifactStatus(
        digest=digest,
        uri=store.uri(store.artifact_prefix(digest)),
        size_bytes=manifest.size_bytes,
        created_at=manifest.created_at,
        reused=not compiled_here,
    )
