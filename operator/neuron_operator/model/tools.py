"""What phases act with: the children, the edges behind their protocols, and what may be forgotten."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from weakref import WeakValueDictionary

from neuron_operator.api.objects import Key
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.hub import HubSource
from neuron_operator.loop.snapshot import Snapshot
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.progress import Progress
from neuron_runtime.contract.store import StoreLocation

from .children import Children
from .policies import ShownProgress


class Artifacts(Protocol):
    """Where artifacts are looked up; `aws.artifacts` fills it in."""

    async def find(self, store: StoreLocation, digest: Digest) -> ArtifactManifest | None:
        """Manifest of an artifact, or None. Raises the errors of `aws.artifacts`."""


class Hub(Protocol):
    """Where sources are resolved; `hub` fills it in."""

    async def resolve(self, repo: str, revision: str) -> HubSource:
        """Resolve a revision to its commit."""

    async def commit(self, repo: str, revision: str) -> str:
        """The commit that a revision names now."""


class ProgressReader(Protocol):
    """Where compile pods are asked; `probe` fills it in."""

    async def read(self, pod_ip: str) -> Progress | None:
        """Progress of a compile pod, or None."""


@dataclass(frozen=True)
class Miss:
    """An artifact was looked up and was not there."""

    time: datetime
    outcomes: frozenset[str]
    """What `flight.outcomes` was."""


@dataclass
class Memory:
    """What may be forgotten of one model."""

    uid: str
    refused: bool = False
    """The API server, or an object of somebody else, stands in the way of its Job. Losing it costs one attempt."""
    shown_progress: dict[str, ShownProgress] = field(default_factory=dict)
    """By Job UID; bounds how often progress is written. Losing it costs one write."""
    answered_report: str | None = None
    """The last report of a missing or damaged artifact that was followed up. Losing it costs one look-up."""
    miss: Miss | None = None
    """Losing it costs one look-up."""
    compiled: Digest | None = None
    """The artifact that a Job of the model made. Losing it costs `status.artifact.reused` its memory."""
    audit_at: datetime | None = None
    """When the known artifact is looked up again. Losing it moves the audit."""
    upstream_at: datetime | None = None
    """When it is looked whether the source has moved on. Losing it moves the look."""

    @property
    def wake_at(self) -> datetime | None:
        """When a model that is ready wants to be looked at again."""
        return min((time for time in (self.audit_at, self.upstream_at) if time is not None), default=None)


@dataclass
class Tools:
    """What phases act with. One set serves all models."""

    children: Children
    snapshot: Snapshot
    artifacts: Artifacts
    hub: Hub
    progress: ProgressReader
    settings: PlatformSettings
    clock: Callable[[], datetime]
    _memories: dict[Key, Memory] = field(default_factory=dict)
    _flight_locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def memory(self, model: NeuronModel) -> Memory:
        """What is remembered of a model."""
        memory = self._memories.get(model.key)
        if memory is None or memory.uid != model.metadata.uid:
            memory = self._memories[model.key] = Memory(model.metadata.uid)
        return memory

    def forget(self, key: Key) -> None:
        """Remember nothing of a model that is gone."""
        self._memories.pop(key, None)

    def is_refused(self, model: NeuronModel) -> bool:
        """Whether something stands in the way of the model's Job."""
        memory = self._memories.get(model.key)
        return memory is not None and memory.uid == model.metadata.uid and memory.refused

    def flight_lock(self, artifact: Digest) -> asyncio.Lock:
        """Lock under which a compile of an artifact is started."""
        return self._flight_locks.setdefault(artifact, asyncio.Lock())
