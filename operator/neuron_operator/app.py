"""Composes the operator: credentials, watches, leadership, workers, health."""

import asyncio
import logging
import os
import random
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import kopf

from neuron_operator.api.objects import NEURON_MODEL, Key, Kind, Manifest, key_of
from neuron_operator.aws.artifacts import S3Artifacts
from neuron_operator.hub import HuggingFaceHub
from neuron_operator.kube.access import cluster_access
from neuron_operator.kube.events import EventRecorder
from neuron_operator.kube.gateway import Gateway
from neuron_operator.kube.leases import KubernetesLeaseStore
from neuron_operator.loop import triggers
from neuron_operator.loop.controller import Controller, Outcome
from neuron_operator.loop.lease import LeaderLease
from neuron_operator.loop.queue import WorkQueue
from neuron_operator.loop.snapshot import Snapshot
from neuron_operator.model.reconcile import Reconciler
from neuron_operator.model.relations import CHILD_SELECTOR, INDEXED_LABELS, WATCHED, affected_models
from neuron_operator.probe import ProgressProbe
from neuron_operator.settings import PlatformSettings
from neuron_operator.telemetry.health import health_server
from neuron_operator.telemetry.logging import about
from neuron_operator.telemetry.metrics import Metrics

_LEASE_NAME = "neuron-operator"
_RECONCILE_TIMEOUT_SECONDS = 60.0
_RELIST_SECONDS = 600.0

logger = logging.getLogger(__name__)


class WatchesEnded(Exception):
    """kopf stopped watching. The process ends, so that the kubelet starts it anew."""


async def run(settings: PlatformSettings, *, namespace: str, identity: str) -> None:
    """Run until SIGTERM or SIGINT. Raises when watching or leading is no longer possible."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    operator = _Operator(settings, namespace, identity)
    running = asyncio.create_task(operator.run(), name="operator")
    stopping = asyncio.create_task(stop.wait(), name="signals")
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        logger.info("stopping")
        running.cancel()
    stopping.cancel()
    await asyncio.gather(running, stopping, return_exceptions=True)
    if not running.cancelled():
        running.result()


class _Operator:
    def __init__(self, settings: PlatformSettings, namespace: str, identity: str) -> None:
        self._settings = settings
        self._identity = identity
        self._lease_key = Key(namespace, _LEASE_NAME)
        self._metrics = Metrics()
        self._snapshot = Snapshot(WATCHED, INDEXED_LABELS)
        self._queue: WorkQueue[Key] = WorkQueue()
        self._watching = asyncio.Event()

    async def run(self) -> None:
        access = cluster_access()
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession(trust_env=True))
            unfenced = await stack.enter_async_context(Gateway(access))
            self._lease = LeaderLease(KubernetesLeaseStore(unfenced, self._lease_key), self._identity)
            gateway = await stack.enter_async_context(Gateway(access, fence=self._lease.fence))
            artifacts = S3Artifacts()
            stack.callback(artifacts.close)
            self._gateway = gateway
            self._reconciler = Reconciler(
                snapshot=self._snapshot,
                gateway=gateway,
                artifacts=artifacts,
                hub=HuggingFaceHub(session, self._settings.hugging_face.endpoint),
                progress=ProgressProbe(session),
                events=EventRecorder(gateway, self._identity),
                settings=self._settings,
                clock=lambda: datetime.now(UTC),
            )
            await stack.enter_async_context(
                health_server(self._metrics, live=lambda: True, ready=self._watching.is_set)
            )
            # Without the CRD kopf would wait in silence; the LIST says at once what is missing.
            await unfenced.list(NEURON_MODEL)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._lead(), name="lead")
                group.create_task(self._watch(access.connection), name="watch")

    async def _watch(self, connection: triggers.Connection) -> None:
        registry = triggers.registry(
            WATCHED,
            self._snapshot,
            self._queue.add,
            lambda manifest: affected_models(manifest, self._snapshot),
            connection,
        )
        children = [kind for kind in WATCHED if kind != NEURON_MODEL]
        try:
            await kopf.operator(
                registry=registry,
                settings=triggers.settings(children, CHILD_SELECTOR),
                standalone=True,
                clusterwide=True,
                ready_flag=self._watching,
            )
        finally:
            self._watching.clear()
        raise WatchesEnded("kopf ended its watches")

    async def _lead(self) -> None:
        await self._lease.lead(self._work)

    async def _work(self) -> None:
        """Work as the leader: first know everything, then start the workers."""
        self._metrics.leading(True)
        try:
            await self._relist()
            for model in self._snapshot.list(NEURON_MODEL):
                self._queue.add(key_of(model))
            controller = Controller(
                self._queue,
                self._reconcile,
                workers=self._settings.workers,
                timeout=_RECONCILE_TIMEOUT_SECONDS,
                instruments=self._metrics,
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(controller.run(), name="controller")
                group.create_task(self._relist_now_and_then(), name="relist")
        finally:
            self._metrics.leading(False)

    async def _reconcile(self, key: Key) -> Outcome:
        with about(str(key)):
            return await self._reconciler(key)

    async def _relist_now_and_then(self) -> None:
        """Heal what watches can miss: objects that were deleted while a stream was broken."""
        while True:
            await asyncio.sleep(_RELIST_SECONDS * random.uniform(0.9, 1.1))  # noqa: S311 - no secret is made of it
            await self._relist()

    async def _relist(self) -> None:
        for manifest in await self._snapshot.relist(self._list):
            for key in affected_models(manifest, self._snapshot):
                self._queue.add(key)

    async def _list(self, kind: Kind) -> list[Manifest]:
        return await self._gateway.list(kind, label_selector="" if kind == NEURON_MODEL else CHILD_SELECTOR)


def identity_and_namespace() -> tuple[str, str]:
    """Who and where this replica is, from the downward API."""
    namespace = os.environ.get("POD_NAMESPACE") or "default"
    return os.environ.get("POD_NAME") or f"{Path.cwd().name}-{os.getpid()}", namespace
