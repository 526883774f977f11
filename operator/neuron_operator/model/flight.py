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
from .revision import Revision, parse_revision


def live_job(revision: Revision, snapshot: Snapshot) -> Manifest | None:
    """The Job that now works on the revision's artifact, of whichever model."""
    for claimed in _sharing(revision, snapshot):
        for job in _jobs(claimed, snapshot):
            if job.state is JobState.LIVE:
                return job.manifest
    return None


def claims(revision: Revision, snapshot: Snapshot, now: datetime) -> list[Claim]:
    """All models that want the revision's artifact, from the same store."""
    found = []
    for claimed in _sharing(revision, snapshot):
        model = _wanting_model(claimed, snapshot)
        if model is not None:
            found.append(_claim(model, _jobs(claimed, snapshot), now))
    return found


def _sharing(revision: Revision, snapshot: Snapshot) -> list[Revision]:
    label = (names.ARTIFACT_LABEL, names.artifact_label(revision.record.artifact_digest))
    parsed = [parse_revision(manifest) for manifest in snapshot.list(CONTROLLER_REVISION, label=label)]
    return [other for other in parsed if other.record.store == revision.record.store]


def _wanting_model(claimed: Revision, snapshot: Snapshot) -> NeuronModel | None:
    metadata = claimed.manifest["metadata"]
    manifest = snapshot.get(NEURON_MODEL, Key(metadata["namespace"], labels_of(claimed.manifest)[names.MODEL_LABEL]))
    if manifest is None or is_deleting(manifest) or not is_owned_by(claimed.manifest, uid_of(manifest)):
        return None
    try:
        model = NeuronModel.parse(manifest)
    except ValidationError:
        return None
    return model if revision_hash(model.spec) == claimed.hash else None


def _jobs(claimed: Revision, snapshot: Snapshot) -> list[CompileJob]:
    metadata = claimed.manifest["metadata"]
    owner = metadata["ownerReferences"][0]["uid"]
    label = (names.MODEL_LABEL, labels_of(claimed.manifest)[names.MODEL_LABEL])
    artifact = names.artifact_label(claimed.record.artifact_digest)
    pods = snapshot.list(POD, namespace=metadata["namespace"], label=label)
    jobs = [
        observe_job(job, pods)
        for job in snapshot.list(JOB, namespace=metadata["namespace"], label=label)
        if labels_of(job).get(names.ARTIFACT_LABEL) == artifact and is_owned_by(job, owner)
    ]
    return sorted(jobs, key=lambda job: job.attempt)


def _claim(model: NeuronModel, jobs: list[CompileJob], now: datetime) -> Claim:
    newest = jobs[-1] if jobs else None
    failed = newest is not None and newest.state is JobState.FAILED
    return Claim(
        key=model.key,
        created_at=model.metadata.creation_timestamp,
        uid=model.metadata.uid,
        suspended=model.spec.suspend,
        has_live_job=any(job.state is JobState.LIVE for job in jobs),
        gave_up=newest is not None and failed and isinstance(next_attempt(model, newest, now), GiveUp),
        failed_for_own_reason=newest is not None and failed and failure_of(newest).retry is RetryClass.OWN,
    )
