"""Single flight: one compile for each artifact of a store, whoever wants it.

The claims are read off the snapshot: every ControllerRevision with the artifact's label, whose model still wants that
revision. So a restart, or another replica, sees the same claims.
"""

from datetime import datetime

from pydantic import ValidationError

from neuron_operator.api.impact import revision_hash
from neuron_operator.api.objects import (
    CONTROLLER_REVISION,
    JOB,
    NEURON_MODEL,
    POD,
    Key,
    Manifest,
    is_deleting,
    is_owned_by,
    labels_of,
    uid_of,
)
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.diagnosis.catalogue import RetryClass
from neuron_operator.loop.snapshot import Snapshot

from .jobs import CompileJob, JobState, observe_job
from .policies import Claim, GiveUp
from .resources import names
from .retries import failure_of, next_attempt
from .revision import SHARED_DOMAIN, Revision, parse_revision


def live_job(revision: Revision, snapshot: Snapshot) -> Manifest | None:
    """The Job that now works on the revision's artifact, of whichever model."""
    for claimed in _sharing(revision, snapshot):
        for job in _jobs(claimed, snapshot):
            if job.state is JobState.LIVE:
                return job.manifest
    return None


def claims(revision: Revision, snapshot: Snapshot, now: datetime) -> list[Claim]:
    """All models that want the revision's artifact from the same store, or still have a Job that makes it."""
    found = []
    for claimed in _sharing(revision, snapshot):
        model = _owning_model(claimed, snapshot)
        if model is None:
            continue
        claim = _claim(model, claimed, _jobs(claimed, snapshot), now)
        if claim.wanted or claim.has_live_job:
            found.append(claim)
    return found


def _sharing(revision: Revision, snapshot: Snapshot) -> list[Revision]:
    label = (names.ARTIFACT_LABEL, names.artifact_label(revision.record.artifact_digest))
    # What stands in another namespace was written by another tenant: it counts only where sharing is cluster-wide.
    namespace = None if revision.record.store.domain == SHARED_DOMAIN else revision.manifest["metadata"]["namespace"]
    found = []
    for manifest in snapshot.list(CONTROLLER_REVISION, namespace=namespace, label=label):
        try:
            other = parse_revision(manifest)
        except ValidationError:
            continue
        if other.record.store == revision.record.store:
            found.append(other)
    return found


def _owning_model(claimed: Revision, snapshot: Snapshot) -> NeuronModel | None:
    metadata = claimed.manifest["metadata"]
    manifest = snapshot.get(NEURON_MODEL, Key(metadata["namespace"], claimed.model))
    if manifest is None or is_deleting(manifest) or not is_owned_by(claimed.manifest, uid_of(manifest)):
        return None
    try:
        return NeuronModel.parse(manifest)
    except ValidationError:
        return None


def _jobs(claimed: Revision, snapshot: Snapshot) -> list[CompileJob]:
    metadata = claimed.manifest["metadata"]
    owners = {reference["uid"] for reference in metadata.get("ownerReferences") or []}
    label = (names.MODEL_LABEL, claimed.model)
    artifact = names.artifact_label(claimed.record.artifact_digest)
    pods = snapshot.list(POD, namespace=metadata["namespace"], label=label)
    jobs = [
        observe_job(job, pods)
        for job in snapshot.list(JOB, namespace=metadata["namespace"], label=label)
        if labels_of(job).get(names.ARTIFACT_LABEL) == artifact and any(is_owned_by(job, owner) for owner in owners)
    ]
    return sorted(jobs, key=lambda job: job.attempt)


def _claim(model: NeuronModel, claimed: Revision, jobs: list[CompileJob], now: datetime) -> Claim:
    newest = jobs[-1] if jobs else None
    failed = newest is not None and newest.state is JobState.FAILED
    return Claim(
        key=model.key,
        created_at=model.metadata.creation_timestamp,
        uid=model.metadata.uid,
        wanted=revision_hash(model.spec) == claimed.hash and not model.spec.suspend,
        has_live_job=any(job.state is JobState.LIVE for job in jobs),
        gave_up=newest is not None and failed and isinstance(next_attempt(model, newest, now), GiveUp),
        failed_for_own_reason=newest is not None and failed and failure_of(newest).retry is RetryClass.OWN,
    )
