"""What we know of each watched kind: the newest form seen of every object.

It is filled from three sides: a full LIST when leadership starts and now and then after, the bodies of watch events,
and the answers to our own writes. Whichever form is newest wins; `resourceVersion` tells, which Kubernetes lets clients
compare as a number for objects of one kind. What is held must not be changed.

An object that loses the label by which it is watched is told as deleted, and may come back with the same UID. So a
deletion only keeps out what is older than itself.
"""

import math
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from neuron_operator.api.objects import Key, Kind, Manifest, key_of, kind_of, labels_of, uid_of

Manifests = list[Manifest]
Lister = Callable[[Kind], Awaitable[Manifests]]

Entries = list[tuple[Kind, str, str]]

# Longer texts are rarely the same in two objects.
_SHORT_TEXT = 64

# How many deleted objects are remembered, so that a late event does not bring them back.
_REMEMBERED_DELETIONS = 10_000


class Snapshot:
    """The newest form seen of every object of the watched kinds, with an index by label."""

    def __init__(self, kinds: Sequence[Kind], indexed_labels: Sequence[str]) -> None:
        self._kinds = tuple(kinds)
        self._labels = tuple(indexed_labels)
        self._objects: dict[Kind, dict[Key, Manifest]] = {kind: {} for kind in kinds}
        self._index: dict[tuple[Kind, str, str], dict[Key, Manifest]] = {}
        self._deleted: OrderedDict[str, float] = OrderedDict()

    def get(self, kind: Kind, key: Key) -> Manifest | None:
        """The object of this name, if one is known."""
        return self._objects[kind].get(key)

    def list(self, kind: Kind, *, namespace: str | None = None, label: tuple[str, str] | None = None) -> list[Manifest]:
        """Known objects of a kind. `label` must be an indexed one; with it the cost is that of the answer."""
        if label is None:
            found: Iterable[tuple[Key, Manifest]] = self._objects[kind].items()
        elif label[0] in self._labels:
            found = self._index.get((kind, *label), {}).items()
        else:
            raise ValueError(f"label {label[0]} is not indexed")
        return [manifest for key, manifest in found if namespace is None or key.namespace == namespace]

    def observe(self, event_type: str | None, manifest: Manifest) -> bool:
        """Take a watch event in. False when it says nothing new: an older form, or one from before a deletion."""
        kind, key, uid, version = kind_of(manifest), key_of(manifest), uid_of(manifest), _version(manifest)
        known = self._objects[kind].get(key)
        if event_type == "DELETED":
            if self._deleted.get(uid) == math.inf:
                # Told to us by ourselves, but not to those whom an event is to wake.
                self._deleted[uid] = version
                return True
            self._remember_deletion(uid, version)
            if known is None or uid_of(known) != uid or _version(known) > version:
                return False
            self._remove(kind, key, known)
            return True
        if version <= self._deleted.get(uid, 0) or (known is not None and _version(known) >= version):
            return False
        if known is not None:
            self._remove(kind, key, known)
        self._add(kind, key, _compact(manifest))
        return True

    def remember(self, manifest: Manifest) -> None:
        """Take the answer to an own write in."""
        self.observe(None, manifest)

    def forget(self, kind: Kind, key: Key, uid: str) -> None:
        """An own delete left nothing behind, and nothing of this UID will ever be there again."""
        self._remember_deletion(uid, math.inf)
        known = self._objects[kind].get(key)
        if known is not None and uid_of(known) == uid:
            self._remove(kind, key, known)

    async def relist(self, lister: Lister) -> Manifests:
        """Compare with a full LIST of each kind; returns what was changed or has vanished without an event.

        Of a changed object both forms are returned, since it may concern others now. Nothing is taken in before all
        LISTs have succeeded, so that no change is lost between an error and the next attempt.

        What is written while a LIST is under way may be missing in its answer. So only an object that was known before
        it started, and has not changed since, counts as vanished.
        """
        listings = []
        for kind in self._kinds:
            before = dict(self._objects[kind])
            listings.append((kind, before, await lister(kind)))
        changed = []
        for kind, before, listed in listings:
            for manifest in listed:
                known = self.get(kind, key_of(manifest))
                if self.observe(None, manifest):
                    changed += [manifest] if known is None else [known, manifest]
            present = {uid_of(manifest) for manifest in listed}
            for key, manifest in before.items():
                if uid_of(manifest) not in present and self.get(kind, key) is manifest:
                    self._remember_deletion(uid_of(manifest), _version(manifest))
                    self._remove(kind, key, manifest)
                    changed.append(manifest)
        return changed

    def _add(self, kind: Kind, key: Key, manifest: Manifest) -> None:
        self._objects[kind][key] = manifest
        for entry in self._entries(kind, manifest):
            self._index.setdefault(entry, {})[key] = manifest

    def _remove(self, kind: Kind, key: Key, manifest: Manifest) -> None:
        del self._objects[kind][key]
        for entry in self._entries(kind, manifest):
            members = self._index[entry]
            del members[key]
            if not members:
                del self._index[entry]

    def _entries(self, kind: Kind, manifest: Manifest) -> Entries:
        labels = labels_of(manifest)
        return [(kind, name, labels[name]) for name in self._labels if name in labels]

    def _remember_deletion(self, uid: str, version: float) -> None:
        self._deleted[uid] = max(version, self._deleted.get(uid, 0))
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])


def _compact(manifest: Manifest) -> Manifest:
    """A copy without managedFields that shares its names and short texts with all other objects: half the memory."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    compact: Manifest = _interned({**manifest, "metadata": metadata})
    return compact


def _interned(value: Any) -> Any:
    if isinstance(value, dict):
        return {sys.intern(name): _interned(of) for name, of in value.items()}
    if isinstance(value, list):
        return [_interned(item) for item in value]
    if isinstance(value, str) and len(value) <= _SHORT_TEXT:
        return sys.intern(value)
    return value
