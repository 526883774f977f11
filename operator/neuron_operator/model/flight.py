"""Single flight: one compile for each artifact of a store, whoever wants it.

A Job that has not got to run for some minutes does not hold the flight: another model may start one of its own. As soon
as one of them runs, the others' are taken away; nothing is lost with them.

The claims are read off the snapshot: every ControllerRevision with the artifact's label, whose model still wants that
revision. So a restart, or another replica, sees the same claims.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from neuron_operator.api.conditions import Reason
from neuron_operator.api.impact import revision_hash
from neuron_operator.api.objects import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    NEURON_MODEL,
    POD,
    Key,
    Manifest,
    annotations_of,
    is_deleting,
    is_owned_by,
    key_of,
    labels_of,
    uid_of,
)
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.diagnosis.catalogue import RetryClass
from neuron_operator.loop.snapshot import Snapshot

from .jobs import CompileJob, JobState, observe_job, standstill
from .policies import Claim, GiveUp
from .resources import names
from .resources.compile_job import settings_digest, settings_digest_of
from .resources.deployment import ARTIFACT_ANNOTATION
from .retries import failure_of, next_attempt
from .revision import SHARED_DOMAIN, Revision, RevisionRecord, fits, parent_name, parse_revision


def live_job(revision: Revision, snapshot: Snapshot, now: datetime) -> Manifest | None:
    """The Job that now works on the revision's artifact, of whichever model.

    It counts even when its model's spec asks for something else by now.
    """
    jobs = (job for job in _flight_jobs(revision, snapshot) if job.state is JobState.LIVE)
    return next((job.manifest for job in jobs if standstill(job, now) is None), None)


def running_job(revision: Revision, snapshot: Snapshot) -> Manifest | None:
    """The Job of the revision's artifact, of whichever model, whose container has been started."""
    jobs = (job for job in _flight_jobs(revision, snapshot) if job.state is JobState.LIVE)
    return next((job.manifest for job in jobs if job.has_started and not is_deleting(job.manifest)), None)


def outcomes(revision: Revision, snapshot: Snapshot) -> frozenset[str]:
    """What tells that the artifact may be there by now: Jobs that ended, and Deployments that were made with it."""
    recorded = snapshot.list(CONTROLLER_REVISION, namespace=_namespace(revision), label=_label(revision))
    # A revision's Deployment has its name.
    deployments = [snapshot.get(DEPLOYMENT, key_of(manifest)) for manifest in recorded]
    jobs = [job.manifest for job in _flight_jobs(revision, snapshot) if job.state is not JobState.LIVE]
    return frozenset(uid_of(manifest) for manifest in (*deployments, *jobs) if manifest is not None)


def failures_of_settings(revision: Revision, snapshot: Snapshot, now: datetime) -> dict[str, Claim]:
    """Who gave up on the artifact for what others may allow more of, time or memory; by its settings.

    And whose pod no node takes: one of the same resources would be taken by none, either.
    """
    found = {}
    for job in _flight_jobs(revision, snapshot):
        settings, diagnosis, trouble = settings_digest_of(job.manifest), job.diagnosis, standstill(job, now)
        if settings is None:
            continue
        key = Key(job.manifest["metadata"]["namespace"], labels_of(job.manifest)[names.MODEL_LABEL])
        if diagnosis is not None and diagnosis.retry is RetryClass.SETTINGS:
            found[settings] = Claim(key, settings, gave_up=diagnosis)
        elif trouble is not None and trouble.reason is Reason.UNSCHEDULABLE:
            found[settings] = Claim(key, settings, standstill=trouble)
    return found


def _flight_jobs(revision: Revision, snapshot: Snapshot) -> Iterator[CompileJob]:
    """Jobs that work or worked on the revision's artifact, of all models."""
    for manifest in snapshot.list(JOB, namespace=_namespace(revision), label=_label(revision)):
        labels, namespace = labels_of(manifest), manifest["metadata"]["namespace"]
        name = names.controller_revision(labels.get(names.MODEL_LABEL, ""), labels.get(names.REVISION_LABEL, ""))
        recorded = snapshot.get(CONTROLLER_REVISION, Key(namespace, name))
        if recorded is not None and _shares(recorded, revision):
            pods = snapshot.list(POD, namespace=namespace, label=(names.MODEL_LABEL, labels[names.MODEL_LABEL]))
            yield observe_job(manifest, pods)


def claims(
    revision: Revision, snapshot: Snapshot, now: datetime, is_refused: Callable[[NeuronModel], bool]
) -> Iterator[Claim]:
    """All models that want the revision's artifact from the same store, the oldest first.

    `is_refused` tells of a model whether what it needs for a compile was refused. Read as far as needed: thousands may
    share an artifact, and as a rule the first one decides.
    """
    recorded = snapshot.list(CONTROLLER_REVISION, namespace=_namespace(revision), label=_label(revision))
    named = [(manifest, snapshot.get(NEURON_MODEL, _model_key(manifest))) for manifest in recorded]
    by_age = sorted(((model, manifest) for manifest, model in named if model is not None), key=_age)
    for wanting, manifest in by_age:
        model = _parse_wanting(wanting, manifest)
        if model is not None and _shares(manifest, revision):
            jobs = _jobs(model, revision, snapshot)
            claim = _claim(model, jobs, now)
            if is_refused(model):
                claim = replace(claim, failed_for_own_reason=True)
            yield replace(claim, has_artifact=not jobs and _was_made_with_artifact(manifest, snapshot))


def _label(revision: Revision) -> tuple[str, str]:
    return names.ARTIFACT_LABEL, names.artifact_label(revision.record.artifact_digest)


def _namespace(revision: Revision) -> str | None:
    """Where to look. Other tenants write other namespaces: they count only where sharing is cluster-wide."""
    if revision.record.store.domain == SHARED_DOMAIN:
        return None
    return str(revision.manifest["metadata"]["namespace"])


def _shares(recorded: Manifest, revision: Revision) -> bool:
    try:
        return _place(parse_revision(recorded).record) == _place(revision.record)
    except ValidationError:
        return False


def _place(record: RevisionRecord) -> str:
    return record.store.uri(record.store.artifact_prefix(record.artifact_digest))


def _model_key(recorded: Manifest) -> Key:
    return Key(recorded["metadata"]["namespace"], parent_name(recorded))


def _age(claim: tuple[Manifest, Manifest]) -> tuple[str, str]:
    model, _ = claim
    return model["metadata"]["creationTimestamp"], uid_of(model)


def _parse_wanting(manifest: Manifest, recorded: Manifest) -> NeuronModel | None:
    """The model, if what it wants is the recorded revision."""
    if is_deleting(manifest) or not is_owned_by(recorded, uid_of(manifest)):
        return None
    try:
        model = NeuronModel.parse(manifest)
    except ValidationError:
        return None
    return model if not model.spec.suspend and _is_wanted(recorded, model) else None


def _is_wanted(recorded: Manifest, model: NeuronModel) -> bool:
    if recorded["metadata"]["name"] == names.controller_revision(model.metadata.name, revision_hash(model.spec)):
        return True
    try:
        return fits(parse_revision(recorded).record, model.spec)
    except ValidationError:
        return False


def _was_made_with_artifact(recorded: Manifest, snapshot: Snapshot) -> bool:
    """Whether the revision has its Deployment, which has its name, and the artifact was found for it."""
    deployment = snapshot.get(DEPLOYMENT, key_of(recorded))
    return deployment is not None and ARTIFACT_ANNOTATION in annotations_of(deployment)


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
    settings = settings_digest(model)
    newest = jobs[-1] if jobs else None
    trouble = standstill(newest, now) if newest is not None else None
    if trouble is not None:
        is_own = trouble.reason is not Reason.UNSCHEDULABLE
        return Claim(model.key, settings, standstill=trouble, failed_for_own_reason=is_own)
    if newest is None or newest.state is JobState.LIVE or not isinstance(next_attempt(model, newest, now), GiveUp):
        return Claim(model.key, settings)
    failure = failure_of(newest)
    is_own = failure.retry in (RetryClass.OWN, RetryClass.ACCESS)
    return Claim(model.key, settings, gave_up=failure, failed_for_own_reason=is_own)
