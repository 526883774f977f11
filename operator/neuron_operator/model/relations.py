"""Which objects matter to which models: what is watched, and whom an event wakes up."""

from neuron_operator.api.objects import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    NEURON_MODEL,
    POD,
    SERVICE,
    SERVICE_ACCOUNT,
    Key,
    Manifest,
    key_of,
    kind_of,
    labels_of,
)
from neuron_operator.loop.snapshot import Snapshot

from .resources import names

WATCHED = (NEURON_MODEL, CONTROLLER_REVISION, JOB, DEPLOYMENT, SERVICE, POD, SERVICE_ACCOUNT)
INDEXED_LABELS = (names.MODEL_LABEL, names.ARTIFACT_LABEL)
CHILD_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"

# A change of these can pass a shared compile on to another model.
_FLIGHT_KINDS = frozenset({CONTROLLER_REVISION, JOB})


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
    if kind in _FLIGHT_KINDS and names.ARTIFACT_LABEL in labels:
        sharing = snapshot.list(CONTROLLER_REVISION, label=(names.ARTIFACT_LABEL, labels[names.ARTIFACT_LABEL]))
        affected |= {Key(revision["metadata"]["namespace"], _model_of(revision)) for revision in sharing}
    return affected


def _model_of(child: Manifest) -> str:
    return labels_of(child)[names.MODEL_LABEL]
