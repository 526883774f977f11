"""Kubernetes objects as plain dicts, and what is read off them everywhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Manifest = dict[str, Any]


class Key(NamedTuple):
    """Namespace and name of an object, as queues and snapshots hold it."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Kind:
    """A kind of Kubernetes object, as the API server's paths and manifests name it."""

    api_version: str
    name: str
    plural: str

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """API version without the group."""
        return self.api_version.rpartition("/")[2]


NEURON_MODEL = Kind("neuron-operator.dev/v1alpha1", "NeuronModel", "neuronmodels")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
JOB = Kind("batch/v1", "Job", "jobs")
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
EVENT = Kind("events.k8s.io/v1", "Event", "events")

KINDS = {
    (kind.api_version, kind.name): kind
    for kind in (
        NEURON_MODEL,
        CONTROLLER_REVISION,
        DEPLOYMENT,
        JOB,
        POD,
        SERVICE,
        SERVICE_ACCOUNT,
        LEASE,
        EVENT,
    )
}


def kind_of(manifest: Manifest) -> Kind:
    """Kind of an object. Raises KeyError for a kind that the operator does not handle."""
    return KINDS[manifest["apiVersion"], manifest["kind"]]


def key_of(manifest: Manifest) -> Key:
    """Namespace and name of an object."""
    metadata = manifest["metadata"]
    return Key(metadata["namespace"], metadata["name"])


def uid_of(manifest: Manifest) -> str:
    """UID that the API server gave the object."""
    return str(manifest["metadata"]["uid"])


def labels_of(manifest: Manifest) -> Mapping[str, str]:
    """Labels of an object; empty when it has none."""
    return manifest["metadata"].get("labels") or {}


def annotations_of(manifest: Manifest) -> Mapping[str, str]:
    """Annotations of an object; empty when it has none."""
    return manifest["metadata"].get("annotations") or {}


def is_owned_by(manifest: Manifest, owner_uid: str) -> bool:
    """Whether the object's controller is the owner with this UID."""
    references = manifest["metadata"].get("ownerReferences") or []
    return any(reference.get("controller") and reference["uid"] == owner_uid for reference in references)


def is_deleting(manifest: Manifest) -> bool:
    """Whether the object is on its way out."""
    return "deletionTimestamp" in manifest["metadata"]
