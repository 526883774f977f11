"""Composes the operator: credentials, watches, leadership, workers, health."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp

from neuron_operator.api.objects import NEURON_MODEL, Key, Kind, Manifest
from neuron_operator.aws.artifacts import S3Artifacts
from neuron_operator.hub import HuggingFaceHub
from neuron_operator.kube.access import ClusterAccess, cluster_access
from neuron_operator.kube.definition import check_definition
from neuron_operator.kube.events import EventRecorder
from neuron_operator.kube.gateway import Gateway
from neuron_operator.kube.leases import KubernetesLeaseStore
from neuron_operator.loop import triggers
from neuron_operator.loop.controller import Controller
from neuron_operator.loop.leading import Leading
from neuron_operator.loop.lease import LeaderLease
from neuron_operator.loop.queue import WorkQueue
from neuron_operator.loop.snapshot import Snapshot
from neuron_operator.model.reconcile import Reconciler
from neuron_operator.model.relations import CHILD_SELECTOR, INDEXED_LABELS, WATCHED, affected_models
from neuron_operator.probe import progress_probe
from neuron_operator.settings import PlatformSettings
from neuron_operator.telemetry import logging as log
from neuron_operator.telemetry.health import Heartbeat, health_server
from neuron_operator.telemetry.metrics import Metrics

_LEASE_NAME = "neuron-operator"
_RECONCILE_TIMEOUT_SECONDS = 60.0
# The lease is taken or renewed, or that is tried, every few seconds.
_HEARTBEAT_SECONDS = 30.0


async def run(settings: PlatformSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises when watching or leading is no longer possible."""
    async with _operator(settings) as operator:
        await operator.run()


@asynccontextmanager
async def _operator(settings: PlatformSettings) -> AsyncIterator["_Operator"]:
    """Open what must be closed again."""
    access = cluster_access()
    identity = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
    lease_key = Key(os.environ.get("POD_NAMESPACE") or "default", _LEASE_NAME)
    heartbeat = Heartbeat(_HEARTBEAT_SECONDS)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=True))
        unfenced = await stack.enter_async_context(Gateway(access))
        lease = LeaderLease(KubernetesLeaseStore(unfenced, lease_key), identity, beat=heartbeat.beat)
        gateway = await stack.enter_async_context(Gateway(access, fence=lease.fence))
        artifacts = S3Artifacts()
        stack.callback(artifacts.close)
        snapshot = Snapshot(WATCHED, INDEXED_LABELS)
        reconciler = Reconciler(
            snapshot=snapshot,
            gateway=gateway,
            artifacts=artifacts,
            hub=HuggingFaceHub(session, settings.hugging_face.endpoint),
            progress=await stack.enter_async_context(progress_probe()),
            events=EventRecorder(gateway, identity),
            settings=settings,
            clock=lambda: datetime.now(UTC),
        )
        operator = _Operator(access, unfenced, lease, snapshot, reconciler, settings.workers)
        await stack.enter_async_context(
            health_server(
                operator.metrics,
                live=lambda: heartbeat.is_fresh() and not operator.controller.is_stuck(),
                ready=operator.watches.are_running,
            )
        )
        yield operator


class _Operator:
    """Watches in every replica, work in the leader."""

    def __init__(
        self,
        access: ClusterAccess,
        gateway: Gateway,
        lease: LeaderLease,
        snapshot: Snapshot,
        reconciler: Reconciler,
        workers: int,
    ) -> None:
        def affected(manifest: Manifest) -> set[Key]:
            return affected_models(manifest, snapshot)

        self._gateway = gateway
        self._lease = lease
        queue: WorkQueue[Key] = WorkQueue()
        self.metrics = Metrics(depth=queue.__len__)
        self.controller = Controller(
            queue,
            reconciler,
            workers=workers,
            timeout=_RECONCILE_TIMEOUT_SECONDS,
            instruments=self.metrics,
            mark=log.reconciling,
        )
        self._leading = Leading(snapshot, queue, self.controller, lister=self._list, affected=affected)
        self.watches = triggers.Watches(
            triggers.registry(WATCHED, snapshot, queue.add, affected, access.connection),
            triggers.settings([kind for kind in WATCHED if kind != NEURON_MODEL], CHILD_SELECTOR),
        )

    async def run(self) -> None:
        stop = asyncio.Event()
        _on_end_signals(stop.set)
        await _unless(stop, check_definition(self._gateway, NEURON_MODEL))
        if stop.is_set():
            return
        async with asyncio.TaskGroup() as group:
            # Before the watches, which must not end it with their own tasks: it is to release the lease.
            leading = group.create_task(self._lease.lead(self._lead), name="lead")
            await self.watches.start()
            # Again, because kopf has taken the signals for itself.
            _on_end_signals(stop.set)
            group.create_task(self.watches.run(), name="watch")
            await stop.wait()
            leading.cancel()
            await asyncio.wait({leading})
            self.watches.stop()

    async def _lead(self) -> None:
        self.metrics.leading(True)
        try:
            await self._leading.run()
        finally:
            self.metrics.leading(False)

    async def _list(self, kind: Kind) -> list[Manifest]:
        return await self._gateway.list(kind, label_selector="" if kind == NEURON_MODEL else CHILD_SELECTOR)


def _on_end_signals(end: Callable[[], object]) -> None:
    # As the first process of a container, one that does not handle SIGTERM does not get it at all.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)


async def _unless(stop: asyncio.Event, waiting: Coroutine[Any, Any, None]) -> None:
    """Wait for `waiting` to end, or for `stop`, whichever comes first."""
    async with asyncio.TaskGroup() as group:
        both = {group.create_task(waiting), group.create_task(stop.wait())}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
