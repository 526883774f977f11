"""Plays the nodes beneath real controllers and a real scheduler: one that takes any number of pods and runs none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from neuron_localcluster.node import clock, kubeconfig
from neuron_localcluster.node.api import MERGE_PATCH, APIClient, APIError
from neuron_localcluster.node.reflector import Reflector
from neuron_localcluster.node.state import Manifest
from neuron_localcluster.simulator import statuses
from neuron_localcluster.simulator.end import ContainerEnd
from neuron_localcluster.simulator.resource import PODS

PodEnds = Callable[[Manifest], Awaitable[ContainerEnd]]
"""Called for each pod that is not to be started again (`restartPolicy: Never`); decides how it ends."""

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_CAPACITY = {"cpu": "1000000", "memory": "1000000Gi", "pods": "100000", "ephemeral-storage": "1000000Gi"}
_HEARTBEAT_SECONDS = 10.0
_CONCURRENT_PODS = 32
_GONE = (404, 409)

_log = logging.getLogger(__name__)


class SimulatedNode:
    """Says of each pod that is bound to it what a kubelet would: it ended at once, or runs and is ready."""

    def __init__(self, api: APIClient, pod_ends: PodEnds) -> None:
        self._api = api
        self._pod_ends = pod_ends
        self._turns = asyncio.Semaphore(_CONCURRENT_PODS)
        self._seen: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        self.synced = asyncio.Event()
        """Set once pods can be bound to it."""

    async def run(self) -> None:
        """Never returns."""
        await self._register()
        async with asyncio.TaskGroup() as group:
            self._group = group
            on_node = {"fieldSelector": f"spec.nodeName={statuses.NODE}"}
            group.create_task(Reflector(self._api, PODS.path(), self._take, on_node).run())
            group.create_task(self._beat())
            self.synced.set()

    async def _register(self) -> None:
        await self._api.post("/api/v1/nodes", {"metadata": {"name": statuses.NODE}})
        time = clock.seconds_text(clock.now())
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": time}
        status = {"capacity": _CAPACITY, "allocatable": _CAPACITY, "conditions": [ready]}
        await self._api.patch(f"/api/v1/nodes/{statuses.NODE}/status", {"status": status}, MERGE_PATCH)
        lease = {"metadata": {"name": statuses.NODE}, "spec": self._lease_spec()}
        await self._api.post(_LEASES, lease)

    async def _beat(self) -> None:
        """Without it, the node would be taken for lost after forty seconds."""
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            try:
                await self._api.patch(f"{_LEASES}/{statuses.NODE}", {"spec": self._lease_spec()}, MERGE_PATCH)
            except (APIError, aiohttp.ClientError, TimeoutError) as error:
                _log.warning("heartbeat: %s", error)

    def _lease_spec(self) -> Manifest:
        renewed = clock.micros_text(clock.now())
        return {"holderIdentity": statuses.NODE, "leaseDurationSeconds": 40, "renewTime": renewed}

    def _take(self, event: str, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        if event == "DELETED":
            self._seen.discard(uid)
            return
        assert self._group is not None  # noqa: S101 - listeners are called inside of `run`
        if statuses.is_deleting(pod):
            self._group.create_task(self._answer(pod, self._delete(pod)))
        elif uid not in self._seen:
            self._seen.add(uid)
            self._group.create_task(self._answer(pod, self._play(pod)))

    async def _answer(self, pod: Manifest, action: Awaitable[None]) -> None:
        async with self._turns:
            try:
                await action
            except APIError as error:
                if error.status not in _GONE:
                    _log.warning("pod %s: %s", pod["metadata"]["name"], error)
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.warning("pod %s: %r", pod["metadata"]["name"], error)

    async def _play(self, pod: Manifest) -> None:
        now = clock.now()
        if pod["spec"].get("restartPolicy") == "Never":
            status = statuses.ended(pod, await self._pod_ends(pod), now, clock.now())
        else:
            status = statuses.running(pod, now, ready=True)
        path = PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"], "status")
        await self._api.patch(path, {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}, MERGE_PATCH)

    async def _delete(self, pod: Manifest) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await self._api.delete(PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"]), options)


@asynccontextmanager
async def simulated_node(kubeconfig_file: Path, pod_ends: PodEnds) -> AsyncIterator[SimulatedNode]:
    """A node at work in this event loop, as whom the kubeconfig names."""
    async with APIClient(kubeconfig.load(kubeconfig_file)) as api:
        node = SimulatedNode(api, pod_ends)
        task = asyncio.create_task(node.run(), name="simulated node")
        synced = asyncio.create_task(node.synced.wait())
        try:
            await asyncio.wait({task, synced}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            yield node
        finally:
            for ending in (task, synced):
                ending.cancel()
            await asyncio.wait({task, synced})
