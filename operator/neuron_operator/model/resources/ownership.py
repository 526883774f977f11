"""The metadata that every child of a model carries."""

from typing import Any

from neuron_operator.api.objects import NEURON_MODEL, Manifest
from neuron_operator.api.v1alpha1 import NeuronModel

from . import names


def child(
    model: NeuronModel,
    *,
    api_version: str,
    kind: str,
    name: str,
    labels: dict[str, str],
    annotations: dict[str, str] | None = None,
) -> Manifest:
    """Start of a child's manifest: identity, labels and the owner reference that lets Kubernetes delete it."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": model.metadata.namespace,
        "labels": {**labels, names.MANAGED_BY_LABEL: names.MANAGED_BY, names.MODEL_LABEL: model.metadata.name},
        "ownerReferences": [owner_reference(model)],
    }
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def owner_reference(model: NeuronModel) -> dict[str, Any]:
    """Controller reference to the model."""
    return {
        "apiVersion": NEURON_MODEL.api_version,
        "kind": NEURON_MODEL.name,
        "name": model.metadata.name,
        "uid": model.metadata.uid,
        # Without blockOwnerDeletion: clusters that guard it ask for the right to update the model's finalizers.
        "controller": True,
    }
