"""Looks the revision's artifact up in the store, at the moments when the answer can have changed.

That is before a compile starts, after one ended, and after a server reported that the artifact is gone; never just
because a reconcile runs. That a Deployment was made for the revision is evidence that the artifact was found.
"""

from neuron_operator.api.conditions import Reason
from neuron_operator.api.status import ArtifactStatus, WaitingFor
from neuron_operator.aws import artifacts as store_errors
from neuron_operator.model.flight import live_job
from neuron_operator.model.jobs import JobState
from neuron_operator.model.policies import RetryLater
from neuron_operator.model.retries import next_attempt
from neuron_operator.model.revision import Revision
from neuron_operator.model.scope import Scope
from neuron_operator.model.serving_state import missing_artifact_report
from neuron_operator.model.steps import Continue, Fail, Step, Wait, as_cause
from neuron_operator.model.tools import Tools
from neuron_runtime.contract.artifact import ArtifactManifest

_STORE_PAUSE_SECONDS = 15.0
# Buckets and rights change without a change of the spec.
_LOOK_AGAIN_SECONDS = 60.0


async def look_up_artifact(scope: Scope, tools: Tools) -> Step:
    """Find out whether the artifact is there."""
    revision = scope.revision
    assert revision is not None  # noqa: S101 - record_revision went before
    report = missing_artifact_report(scope.observed.pods_of(revision.hash))
    memory = tools.memory(scope.model)
    if scope.artifact is not None and report in (None, memory.answered_report):
        return Continue()
    scope.artifact = None
    if not _may_have_changed(scope, tools, revision):
        return Continue()
    try:
        manifest = await tools.artifacts.find(revision.record.store, revision.record.artifact_digest)
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
    if manifest is not None:
        compiled_here = any(job.state is JobState.SUCCEEDED for job in scope.observed.jobs_of(revision))
        scope.artifact = _facts(manifest, revision, compiled_here=compiled_here)
        if report is not None:
            memory.answered_report = report
    return Continue()


def _may_have_changed(scope: Scope, tools: Tools, revision: Revision) -> bool:
    if live_job(revision, tools.snapshot) is not None:
        return False
    own = scope.observed.jobs_of(revision)
    if not own or own[-1].state is JobState.SUCCEEDED:
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
