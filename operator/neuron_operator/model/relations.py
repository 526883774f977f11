"""Which objects matter to which models: what is watched, and whom an event wakes up."""

from collections.abc import Mapping

from neuron_operator.api.objects import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    NEURON_MODEL,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    Key,
    Kind,
    Manifest,
    key_of,
    kind_of,
    labels_of,
)
from neuron_operator.loop.snapshot import Snapshot

from .resources import names
from .revision import parent_name

WATCHED = (NEURON_MODEL, CONTROLLER_REVISION, JOB, DEPLOYMENT, SERVICE, POD, SERVICE_ACCOUNT)
INDEXED_LABELS = (names.MODEL_LABEL, names.ARTIFACT_LABEL)
CHILD_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"


def affected_models(manifest: Manifest, snapshot: Snapshot) -> set[Key]:
    """Keys of the models that an object's change concerns."""
    kind = kind_of(manifest)
    if kind == NEURON_MODEL:
        return {key_of(manifest)}
    namespace = manifest["metadata"]["namespace"]
    if kind == SERVICE_ACCOUNT:
        return {key_of(model) for model in snapshot.list(NEURON_MODEL, namespace=namespace)}
    labels = labels_of(manifest)
    affected = set()
    if names.MODEL_LABEL in labels:
        affected.add(Key(namespace, labels[names.MODEL_LABEL]))
    if _concerns_flight(kind, labels):
        sharing = snapshot.list(CONTROLLER_REVISION, label=(names.ARTIFACT_LABEL, labels[names.ARTIFACT_LABEL]))
        affected |= {Key(revision["metadata"]["namespace"], parent_name(revision)) for revision in sharing}
    return affected


def _concerns_flight(kind: Kind, labels: Mapping[str, str]) -> bool:
    """Whether a change of the object can pass a shared compile on to another model.

    Pods count because a Job has failed only once its pod has said why.
    """
    if names.ARTIFACT_LABEL not in labels:
        return False
    if kind == POD:
        return labels.get(names.COMPONENT_LABEL) == names.COMPILE_COMPONENT
    return kind in (CONTROLLER_REVISION, JOB)
