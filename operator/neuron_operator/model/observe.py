"""Everything that one reconcile knows of its model: one frozen picture, taken from the snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from neuron_operator.api.impact import revision_hash
from neuron_operator.api.objects import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    POD,
    SERVICE,
    Key,
    Manifest,
    is_deleting,
    is_owned_by,
    labels_of,
)
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.loop.snapshot import Snapshot

from .inspections import inspection_label
from .jobs import CompileJob, observe_job
from .resources import names
from .resources.service import selected_revision
from .revision import Revision, fits, parent_name, parse_revision
from .serving_state import ready_replicas


@dataclass(frozen=True)
class Observed:
    """A model and its children."""

    model: NeuronModel
    target: str
    """Hash of the revision that the spec asks for: of a recorded one that fits, else of the one to be made."""
    revisions: Mapping[str, Revision]
    """By hash, oldest first."""
    unreadable: frozenset[str]
    """Hashes of revisions whose record this release cannot read."""
    jobs: tuple[CompileJob, ...]
    """Compile Jobs of all artifacts, by attempt."""
    inspections: tuple[CompileJob, ...]
    """Jobs that inspect or inspected sources, by attempt."""
    deployments: Mapping[str, Manifest]
    """By revision hash."""
    service: Manifest | None
    serving_pods: tuple[Manifest, ...]

    @property
    def active(self) -> str | None:
        """Hash of the revision that the Service selects; without that, of the newest one whose pods are ready.

        So a Service that somebody deleted or edited comes back as it was, and pods that answer are known to, though
        somebody may have deleted their revision's record. In the middle of a rollout that was the
        revision before, though some pods of the target may be ready by then.
        """
        selected = selected_revision(self.service) if self.service is not None else ""
        if selected in self.revisions or selected in self.unreadable or selected in self.deployments:
            return selected
        serving = [hash_ for hash_ in self.revisions if ready_replicas(self.deployments.get(hash_)) > 0]
        before = [hash_ for hash_ in serving if hash_ != self.target]
        return next(reversed(before or serving), None)

    def jobs_of(self, revision: Revision) -> list[CompileJob]:
        """Compile Jobs of a revision's artifact, by attempt."""
        label = names.artifact_label(revision.record.artifact_digest)
        return [job for job in self.jobs if job.artifact_label == label]

    def pods_of(self, revision: str) -> list[Manifest]:
        """Serving pods of a revision that are not on their way out."""
        return [
            pod
            for pod in self.serving_pods
            if labels_of(pod).get(names.REVISION_LABEL) == revision and not is_deleting(pod)
        ]


def observe(model: NeuronModel, snapshot: Snapshot) -> Observed:
    """Take the picture. Objects that carry our labels but another owner are not in it."""
    namespace, name = model.key
    label = (names.MODEL_LABEL, name)

    def owned(kind_objects: list[Manifest]) -> list[Manifest]:
        return [manifest for manifest in kind_objects if is_owned_by(manifest, model.metadata.uid)]

    pods = snapshot.list(POD, namespace=namespace, label=label)
    revisions, unreadable = _read(owned(snapshot.list(CONTROLLER_REVISION, namespace=namespace, label=label)), name)
    revisions.sort(key=lambda revision: revision.number)
    jobs = [observe_job(job, pods) for job in owned(snapshot.list(JOB, namespace=namespace, label=label))]
    jobs.sort(key=lambda job: job.attempt)
    deployments = owned(snapshot.list(DEPLOYMENT, namespace=namespace, label=label))
    service = snapshot.get(SERVICE, Key(namespace, names.service(name)))
    return Observed(
        model=model,
        target=_target(model, revisions, unreadable),
        revisions={revision.hash: revision for revision in revisions},
        unreadable=unreadable,
        jobs=tuple(job for job in jobs if not inspection_label(job)),
        inspections=tuple(job for job in jobs if inspection_label(job)),
        deployments={manifest["metadata"]["name"].rpartition("-")[2]: manifest for manifest in deployments},
        service=service if service is not None and is_owned_by(service, model.metadata.uid) else None,
        serving_pods=tuple(pod for pod in pods if labels_of(pod).get(names.COMPONENT_LABEL) == names.SERVING_COMPONENT),
    )


def _read(manifests: list[Manifest], model: str) -> tuple[list[Revision], frozenset[str]]:
    """The revisions that can be read, and the hashes of the others."""
    revisions, unreadable = [], set()
    for manifest in manifests:
        if parent_name(manifest) != model:
            continue
        try:
            revisions.append(parse_revision(manifest))
        except ValidationError:
            unreadable.add(manifest["metadata"]["name"].rpartition("-")[2])
    return revisions, frozenset(unreadable)


def _target(model: NeuronModel, revisions: list[Revision], unreadable: frozenset[str]) -> str:
    own = revision_hash(model.spec)
    if own in unreadable or any(revision.hash == own for revision in revisions):
        return own
    # Auto, written out as what it stood for, is no other revision.
    return next((revision.hash for revision in reversed(revisions) if fits(revision.record, model.spec)), own)
