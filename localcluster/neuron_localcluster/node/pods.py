"""All pods of the agent's nodes: which worker runs which pod, and which pods a Service may use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Protocol

from neuron_localcluster.node.config import NodeConfig
from neuron_localcluster.node.folders import PodFolder, pods_with_folders
from neuron_localcluster.node.pod import PodWorker
from neuron_localcluster.node.sandbox import Shared
from neuron_localcluster.node.state import Manifest

_log = logging.getLogger(__name__)


class PodDirectory(Protocol):
    """Where the log server and the Services find pods."""

    def find(self, namespace: str, name: str) -> PodWorker | None: ...

    def ready(self, namespace: str, selector: Mapping[str, str]) -> Iterator[PodWorker]: ...


class Pods:
    """Takes the changes of pod objects and runs a worker for each."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._vanished: set[str] = set()

    def observe(self, node: NodeConfig, kind: str, manifest: Manifest) -> None:
        """One change, as a reflector gives it."""
        uid = manifest["metadata"]["uid"]
        worker = self._workers.get(uid)
        if kind == "DELETED":
            if worker:
                worker.vanish()
                self._vanished.add(uid)
                self._drop_if_done(uid)
            return
        if worker is None:
            worker = self._start(node, manifest)
        worker.observe(manifest)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        for worker in self._workers.values():
            metadata = worker.manifest["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return worker
        return None

    def ready(self, namespace: str, selector: Mapping[str, str]) -> Iterator[PodWorker]:
        """Ready pods whose labels match."""
        for worker in self._workers.values():
            metadata = worker.manifest["metadata"]
            matches = (metadata.get("labels") or {}).items() >= selector.items()
            if metadata["namespace"] == namespace and matches and worker.is_ready:
                yield worker

    def drop_unknown_folders(self) -> None:
        """Delete what is left of pods that went while no agent ran; call it once all pods are known."""
        for uid in pods_with_folders(self._shared.config.state_dir):
            if uid not in self._workers:
                PodFolder(self._shared.config.state_dir, uid).remove()

    async def abandon(self, grace: float) -> None:
        """End all processes and leave the pods to the next agent."""
        for worker in self._workers.values():
            worker.abandon(grace)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _start(self, node: NodeConfig, manifest: Manifest) -> PodWorker:
        uid = manifest["metadata"]["uid"]
        worker = PodWorker(self._shared, node, manifest)
        self._workers[uid] = worker
        task = asyncio.create_task(worker.run(), name=worker.path)
        self._tasks[uid] = task
        task.add_done_callback(lambda done: self._forget(uid, done))
        return worker

    def _forget(self, uid: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            _log.error("%s", task.get_name(), exc_info=error)
        del self._tasks[uid]
        self._drop_if_done(uid)

    def _drop_if_done(self, uid: str) -> None:
        # Finalizers may keep the object after its pod has ended: only when it is gone, the worker may go.
        if uid in self._vanished and uid not in self._tasks:
            self._vanished.remove(uid)
            self._workers.pop(uid).folder.remove()
