"""Writes child objects: only what differs, and never somebody else's."""

from typing import Protocol

from neuron_operator.api.objects import (
    SERVICE,
    Key,
    Kind,
    Manifest,
    is_deleting,
    is_owned_by,
    key_of,
    kind_of,
    labels_of,
    uid_of,
)
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.errors import AlreadyExists, OperatorError, Rejected
from neuron_operator.loop.snapshot import Snapshot

from .resources import names
from .resources.difference import differs

_INVALID = 422


class Foreign(OperatorError):
    """An object with a name that we need belongs to somebody else. It is never taken over."""

    remedy = "Delete or rename it, or give the NeuronModel another metadata.name"


class Leftover(Foreign):
    """The object belongs to a deleted NeuronModel of the same name. Kubernetes is about to delete it."""


class Cluster(Protocol):
    """The verbs of the Kubernetes API that the domain uses; `kube.gateway` fills them in."""

    async def get(self, kind: Kind, key: Key) -> Manifest | None:
        """Read one object."""

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object. Raises AlreadyExists."""

    async def apply(self, manifest: Manifest) -> Manifest:
        """Apply server-side as `neuron-operator`."""

    async def merge(self, live: Manifest, changes: Manifest) -> Manifest:
        """Merge changes into an object as it was read; lists are replaced as a whole. Raises Conflict."""

    async def replace_status(self, manifest: Manifest) -> Manifest:
        """Replace the status of an object at its resourceVersion. Raises Conflict."""

    async def delete(self, kind: Kind, key: Key, *, uid: str) -> Manifest | None:
        """Delete an object, if it still is the one with this UID; returns it while it is on its way out."""


class Children:
    """The child objects of models, through the snapshot."""

    def __init__(self, cluster: Cluster, snapshot: Snapshot) -> None:
        self._cluster = cluster
        self._snapshot = snapshot

    async def ensure(self, desired: Manifest) -> Manifest:
        """Bring a child to its desired form and return it as it lives. Raises Foreign.

        A child that already has that form costs no call. One that the snapshot does not hold is read first: the
        snapshot holds only objects with our label, and an apply would take a foreign one over.
        """
        live = await self._find(desired)
        if live is not None:
            self._check_ours(desired, live)
            if not differs(desired, live):
                return live
        try:
            return self._remember(await self._cluster.apply(desired))
        except Rejected as error:
            if live is None or error.status != _INVALID or kind_of(live) != SERVICE:
                raise
        # Ports are merged by number: beside one that somebody gave another number, ours would have its name twice.
        await self._cluster.merge(live, {"spec": {"ports": desired["spec"]["ports"]}})
        return self._remember(await self._cluster.apply(desired))

    async def scale_down(self, live: Manifest) -> Manifest:
        """Take a Deployment's replicas away, whatever else it looks like."""
        if live["spec"].get("replicas") == 0:
            return live
        return self._remember(await self._cluster.merge(live, {"spec": {"replicas": 0}}))

    async def annotate(self, live: Manifest, changes: Manifest) -> Manifest:
        """Merge changes of annotations into a child as it was read. Raises Conflict."""
        return self._remember(await self._cluster.merge(live, changes))

    async def check_free(self, desired: Manifest) -> None:
        """Raise Foreign when the child's name is taken by somebody else."""
        live = await self._find(desired)
        if live is not None:
            self._check_ours(desired, live)

    async def exists(self, desired: Manifest) -> bool:
        """Whether an object of this name is there, whoever made it."""
        return await self._find(desired) is not None

    async def create(self, desired: Manifest) -> Manifest:
        """Create a child that never changes, or return the one that is there. Raises Foreign.

        One that is there without the labels by which the snapshot finds its kind gets them back.
        """
        try:
            return self._remember(await self._cluster.create(desired))
        except AlreadyExists:
            live = await self._cluster.get(kind_of(desired), key_of(desired))
            if live is None:
                raise
            self._check_ours(desired, live)
            labels = desired["metadata"]["labels"]
            if not labels.items() <= labels_of(live).items():
                live = await self._cluster.merge(live, {"metadata": {"labels": labels}})
            return self._remember(live)

    async def find(self, model: NeuronModel, kind: Kind, name: str) -> Manifest | None:
        """A child of the model by its name, whatever labels it has; None when there is none."""
        key = Key(model.metadata.namespace, name)
        live = self._snapshot.get(kind, key) or await self._cluster.get(kind, key)
        return live if live is not None and is_owned_by(live, model.metadata.uid) else None

    async def ensure_shared(self, desired: Manifest) -> None:
        """Bring an object that belongs to no single model to its desired form; one that others made stays as it is."""
        live = await self._find(desired)
        if live is not None and labels_of(live).get(names.MANAGED_BY_LABEL) != names.MANAGED_BY:
            return
        if live is None or differs(desired, live):
            self._remember(await self._cluster.apply(desired))

    async def delete(self, live: Manifest) -> None:
        """Delete a child, unless it is on its way out already."""
        if is_deleting(live):
            return
        kind, key, uid = kind_of(live), key_of(live), uid_of(live)
        left = await self._cluster.delete(kind, key, uid=uid)
        if left is not None:
            self._remember(left)
        else:
            self._snapshot.forget(kind, key, uid)

    async def _find(self, desired: Manifest) -> Manifest | None:
        kind, key = kind_of(desired), key_of(desired)
        return self._snapshot.get(kind, key) or await self._cluster.get(kind, key)

    def _check_ours(self, desired: Manifest, live: Manifest) -> None:
        owner = desired["metadata"]["ownerReferences"][0]
        if is_owned_by(live, owner["uid"]):
            return
        what = f"{live['kind']} {live['metadata']['name']}"
        if _is_leftover(live, owner):
            raise Leftover(f"{what} of a deleted NeuronModel of this name is still there; Kubernetes deletes it")
        raise Foreign(f"{what} exists and does not belong to this NeuronModel")

    def _remember(self, live: Manifest) -> Manifest:
        self._snapshot.remember(live)
        return live


def _is_leftover(live: Manifest, owner: Manifest) -> bool:
    """Whether the controller of an object is an earlier NeuronModel of the owner's name."""
    return any(
        reference.get("controller") and reference["kind"] == owner["kind"] and reference["name"] == owner["name"]
        for reference in live["metadata"].get("ownerReferences") or []
    )
