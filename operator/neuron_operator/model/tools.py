"""What phases act with: the children, the edges behind their protocols, and what may be forgotten."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from weakref import WeakValueDictionary

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


class ProgressReader(Protocol):
    """Where compile pods are asked; `probe` fills it in."""

    async def read(self, pod_ip: str) -> Progress | None:
        """Progress of a compile pod, or None."""


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
    shown_progress: dict[str, ShownProgress] = field(default_factory=dict)
    """By Job UID; bounds how often progress is written. Losing it costs one write."""
    answered_reports: dict[str, str] = field(default_factory=dict)
    """By model UID, the last report of a missing artifact that was followed up. Losing it costs one look-up."""
    _flight_locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    def flight_lock(self, artifact: Digest) -> asyncio.Lock:
        """Lock under which a compile of an artifact is started."""
        return self._flight_locks.setdefault(artifact, asyncio.Lock())
