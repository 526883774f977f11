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
from .revision import SHARED_DOMAIN, Revision, parent_name, parse_revision


def live_job(revision: Revision, snapshot: Snapshot) -> Manifest | None:
    """The Job that now works on the revision's artifact, of whichever model.

    It counts even when its model's spec asks for something else by now.
    """
    for manifest in snapshot.list(JOB, namespace=_namespace(revision), label=_label(revision)):
        labels, namespace = labels_of(manifest), manifest["metadata"]["namespace"]
        name = names.controller_revision(labels.get(names.MODEL_LABEL, ""), labels.get(names.REVISION_LABEL, ""))
        recorded = snapshot.get(CONTROLLER_REVISION, Key(namespace, name))
        if recorded is None or not _shares(recorded, revision):
            continue
        pods = snapshot.list(POD, namespace=namespace, label=(names.MODEL_LABEL, labels[names.MODEL_LABEL]))
        if observe_job(manifest, pods).state is JobState.LIVE:
            return manifest
    return None


def claims(revision: Revision, snapshot: Snapshot, now: datetime) -> list[Claim]:
    """All models that want the revision's artifact from the same store."""
    found = []
    for manifest in snapshot.list(CONTROLLER_REVISION, namespace=_namespace(revision), label=_label(revision)):
        model = _wanting_model(manifest, snapshot)
        if model is not None and _shares(manifest, revision):
            found.append(_claim(model, _jobs(model, revision, snapshot), now))
    return found


def _label(revision: Revision) -> tuple[str, str]:
    return names.ARTIFACT_LABEL, names.artifact_label(revision.record.artifact_digest)


def _namespace(revision: Revision) -> str | None:
    """Where to look. Other tenants write other namespaces: they count only where sharing is cluster-wide."""
    if revision.record.store.domain == SHARED_DOMAIN:
        return None
    return str(revision.manifest["metadata"]["namespace"])


def _shares(recorded: Manifest, revision: Revision) -> bool:
    try:
        return parse_revision(recorded).record.store == revision.record.store
    except ValidationError:
        return False


def _wanting_model(recorded: Manifest, snapshot: Snapshot) -> NeuronModel | None:
    manifest = snapshot.get(NEURON_MODEL, Key(recorded["metadata"]["namespace"], parent_name(recorded)))
    if manifest is None or is_deleting(manifest) or not is_owned_by(recorded, uid_of(manifest)):
        return None
    try:
        model = NeuronModel.parse(manifest)
    except ValidationError:
        return None
    wanted = names.controller_revision(model.metadata.name, revision_hash(model.spec))
    return model if wanted == recorded["metadata"]["name"] and not model.spec.suspend else None


def _jobs(model: NeuronModel, revision: Revision, snapshot: Snapshot) -> list[CompileJob]:
    namespace, name = model.key
    pods = snapshot.list(POD, namespace=namespace, label=(names.MODEL_LABEL, name))
    jobs = [
        observe_job(job, pods)
        for job in snapshot.list(JOB, namespace=namespace, label=(names.MODEL_LABEL, name))
        if is_owned_by(job, model.metadata.uid)
    ]
    label = names.artifact_label(revision.record.artifact_digest)
    return sorted((job for job in jobs if job.artifact_label == label), key=lambda job: job.attempt)


def _claim(model: NeuronModel, jobs: list[CompileJob], now: datetime) -> Claim:
    newest = jobs[-1] if jobs else None
    failed = newest is not None and newest.state is JobState.FAILED
    return Claim(
        key=model.key,
        created_at=model.metadata.creation_timestamp,
        uid=model.metadata.uid,
        gave_up=newest is not None and failed and isinstance(next_attempt(model, newest, now), GiveUp),
        failed_for_own_reason=newest is not None and failed and failure_of(newest).retry is RetryClass.OWN,
    )
