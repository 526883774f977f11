"""Watches Jobs and Deployments, and writes what controllers and nodes would."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from neuron_localcluster.node import clock, kubeconfig
from neuron_localcluster.node.api import MERGE_PATCH, APIClient, APIError
from neuron_localcluster.node.reflector import Listener, Reflector
from neuron_localcluster.node.state import Manifest
from neuron_localcluster.simulator import statuses
from neuron_localcluster.simulator.end import ContainerEnd
from neuron_localcluster.simulator.garbage import GarbageCollector
from neuron_localcluster.simulator.resource import DEPLOYMENTS, JOBS, PODS, Resource

JobEnds = Callable[[Manifest], Awaitable[ContainerEnd]]
"""Called when a Job's container is to end; decides how."""
ServerStarts = Callable[[Manifest], Awaitable[ContainerEnd | None]]
"""Called when a Deployment's containers have started: None when they become ready, else how they end."""

_CONCURRENT_OBJECTS = 32
_RETRY_SECONDS = 0.2
_GONE = (404, 409)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delays:
    """Seconds that things take."""

    start: float = 0.0
    """From an object to the running container of its pod."""
    run: float = 0.0
    """From a Job's running container to its end."""
    load: float = 0.0
    """From a Deployment's running containers to their being ready."""


async def _succeed(job: Manifest) -> ContainerEnd:
    return ContainerEnd()


async def _become_ready(deployment: Manifest) -> ContainerEnd | None:
    return None


class Simulator:
    """Controllers of Jobs and Deployments with the nodes beneath them. It depends on the live objects alone.

    With `shows_running` pods and Jobs are said to run before they end, which a watcher of a real cluster sees; without
    it each goes to its end at once, which is the least that can be written. Jobs get pods unless `job_pods` is false.
    Deployments get them with `deployment_pods` alone; they then belong to the Deployment, without a ReplicaSet between.
    `selector` is a label selector of the Jobs and Deployments that are looked at.
    """

    def __init__(
        self,
        api: APIClient,
        *,
        job_ends: JobEnds = _succeed,
        server_starts: ServerStarts = _become_ready,
        delays: Delays = Delays(),
        shows_running: bool = True,
        job_pods: bool = True,
        deployment_pods: bool = False,
        selector: str = "",
    ) -> None:
        self._api = api
        self._job_ends = job_ends
        self._server_starts = server_starts
        self._delays = delays
        self._shows_running = shows_running
        self._job_pods = job_pods
        self._deployment_pods = deployment_pods
        self._parameters: Mapping[str, str] = {"labelSelector": selector} if selector else {}
        self._live: dict[str, Manifest] = {}
        self._pods: defaultdict[str, dict[str, Manifest]] = defaultdict(dict)
        self._dirty: dict[str, None] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_CONCURRENT_OBJECTS)
        self._group: asyncio.TaskGroup | None = None
        self.synced = asyncio.Event()
        """Set once what was there before is known."""

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            watched: list[tuple[Resource, Listener]] = [
                (JOBS, self._taker(self._advance_job)),
                (DEPLOYMENTS, self._taker(self._advance_deployment)),
            ]
            reflectors = [Reflector(self._api, of.path(), take, self._parameters) for of, take in watched]
            on_node = {"fieldSelector": f"spec.nodeName={statuses.NODE}"}
            reflectors.append(Reflector(self._api, PODS.path(), self._take_pod, on_node))
            for reflector in reflectors:
                group.create_task(reflector.run())
            for reflector in reflectors:
                await reflector.synced.wait()
            self.synced.set()

    def start_servers_again(self) -> None:
        """Have it decided again for each Deployment whether its containers become ready."""
        for uid, manifest in self._live.items():
            if manifest["kind"] == DEPLOYMENTS.kind:
                self._wake(uid, self._advance_deployment)

    def _taker(self, advance: Callable[[Manifest], Awaitable[None]]) -> Listener:
        kind = JOBS.kind if advance == self._advance_job else DEPLOYMENTS.kind

        def take(event: str, item: Manifest) -> None:
            uid = item["metadata"]["uid"]
            if event == "DELETED":
                self._live.pop(uid, None)
                return
            if self._is_news(item):
                self._live[uid] = {**item, "kind": kind}  # items of a LIST do not have it
                self._wake(uid, advance)

        return take

    def _is_news(self, item: Manifest) -> bool:
        known = self._live.get(item["metadata"]["uid"])
        return known is None or _version(known) < _version(item)

    def _take_pod(self, event: str, item: Manifest) -> None:
        owner, name = statuses.controller_of(item), item["metadata"]["name"]
        if owner is None:
            return
        if event != "DELETED":
            self._pods[owner][name] = item
            if statuses.is_deleting(item):
                assert self._group is not None  # noqa: S101 - listeners are called inside of `run`
                self._group.create_task(self._end_pod(item))
            return
        self._pods[owner].pop(name, None)
        if not self._pods[owner]:
            del self._pods[owner]
        if self._deployment_pods and self._live.get(owner, {}).get("kind") == DEPLOYMENTS.kind:
            self._wake(owner, self._advance_deployment)

    def _wake(self, uid: str, advance: Callable[[Manifest], Awaitable[None]]) -> None:
        """Have an object looked at; one that is just being looked at is looked at again afterwards."""
        self._dirty[uid] = None
        if uid not in self._busy:
            assert self._group is not None  # noqa: S101 - listeners are called inside of `run`
            self._busy[uid] = self._group.create_task(self._look_at(uid, advance))

    async def _look_at(self, uid: str, advance: Callable[[Manifest], Awaitable[None]]) -> None:
        while uid in self._dirty:
            del self._dirty[uid]
            manifest = self._live.get(uid)
            if manifest is None or statuses.is_deleting(manifest):
                continue
            try:
                await advance(manifest)
            except APIError as error:
                # Gone, or changed: then an event comes.
                if error.status not in _GONE:
                    _log.warning("simulating %s: %s", manifest["metadata"]["name"], error)
                    await self._again(uid)
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.warning("simulating %s: %r", manifest["metadata"]["name"], error)
                await self._again(uid)
        del self._busy[uid]

    async def _again(self, uid: str) -> None:
        await asyncio.sleep(_RETRY_SECONDS)
        self._dirty[uid] = None

    async def _advance_job(self, job: Manifest) -> None:
        if statuses.has_ended(job) or job["spec"].get("suspend"):
            return
        await asyncio.sleep(self._delays.start)
        name = f"{job['metadata']['name']}-{job['metadata']['uid'][:5]}"
        async with self._turns:
            labels = {"job-name": job["metadata"]["name"]}
            pods = [await self._ensure_pod(job, JOBS, name, labels)] if self._job_pods else []
            started = clock.now()
            text = job.get("status", {}).get("startTime") or clock.seconds_text(started)
            if self._shows_running and not job.get("status", {}).get("active"):
                await self._show_pods(pods, None, ready=True)
                await self._write_status(JOBS, job, statuses.job_running(started))
        await asyncio.sleep(self._delays.run)
        if job["metadata"]["uid"] not in self._live:
            return
        end = await self._job_ends(job)
        async with self._turns:
            for pod in pods:
                await self._write_status(PODS, pod, statuses.ended(pod, end, started, clock.now()))
            await self._write_status(JOBS, job, statuses.job_ended(end, text, clock.now()))

    async def _advance_deployment(self, deployment: Manifest) -> None:
        wanted = self._wanted_pods(deployment)
        own = self._pods.get(deployment["metadata"]["uid"], {})
        if statuses.is_settled(deployment) and (own.keys() == wanted or not self._deployment_pods):
            return
        await asyncio.sleep(self._delays.start)
        async with self._turns:
            pods = await self._bring_pods(deployment, wanted)
            if self._delays.load:
                await self._show_pods(pods, None, ready=False)
                await self._write_status(
                    DEPLOYMENTS, deployment, statuses.deployment_status(deployment, clock.now(), ready=False)
                )
        await asyncio.sleep(self._delays.load)
        end = await self._server_starts(deployment)
        async with self._turns:
            await self._show_pods(pods, end, ready=end is None)
            status = statuses.deployment_status(deployment, clock.now(), ready=end is None)
            if not _holds(status, deployment.get("status") or {}):
                await self._write_status(DEPLOYMENTS, deployment, status)

    def _wanted_pods(self, deployment: Manifest) -> set[str]:
        if not self._deployment_pods:
            return set()
        name, form = deployment["metadata"]["name"], statuses.template_hash(deployment)
        return {f"{name}-{form}-{number}" for number in range(deployment["spec"].get("replicas", 1))}

    async def _bring_pods(self, deployment: Manifest, wanted: set[str]) -> list[Manifest]:
        own = dict(self._pods.get(deployment["metadata"]["uid"], {}))
        for name in [name for name in own if name not in wanted]:
            await self._delete_pod(own[name])
        labels = {"pod-template-hash": statuses.template_hash(deployment)}
        return [await self._ensure_pod(deployment, DEPLOYMENTS, name, labels) for name in sorted(wanted)]

    async def _show_pods(self, pods: Sequence[Manifest], end: ContainerEnd | None, *, ready: bool) -> None:
        for pod in pods:
            now = clock.now()
            status = statuses.crashing(pod, end, now) if end else statuses.running(pod, now, ready=ready)
            await self._write_status(PODS, pod, status)

    async def _ensure_pod(self, owner: Manifest, resource: Resource, name: str, labels: dict[str, str]) -> Manifest:
        pod = statuses.pod(owner, resource.api_version, resource.kind, name, labels)
        namespace = pod["metadata"]["namespace"]
        try:
            return await self._api.post(PODS.path(namespace), pod)
        except APIError as error:
            if error.reason != "AlreadyExists":
                raise
            return await self._api.get(PODS.path(namespace, name))

    async def _end_pod(self, pod: Manifest) -> None:
        """What a kubelet does with a pod that somebody has deleted, once its containers have ended."""
        try:
            await self._delete_pod(pod)
        except (APIError, aiohttp.ClientError, TimeoutError) as error:
            _log.warning("deleting pod %s: %s", pod["metadata"]["name"], error)

    async def _delete_pod(self, pod: Manifest) -> None:
        metadata = pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        try:
            await self._api.delete(PODS.path(metadata["namespace"], metadata["name"]), options)
        except APIError as error:
            if error.status not in _GONE:
                raise

    async def _write_status(self, resource: Resource, manifest: Manifest, status: Manifest) -> None:
        metadata = manifest["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"], "status")
        body = {"metadata": {"uid": metadata["uid"]}, "status": status}
        answer = await self._api.patch(path, body, MERGE_PATCH)
        # The event of it may come late, and the object must not be taken for what it was until then.
        if metadata["uid"] in self._live and self._is_news(answer):
            self._live[metadata["uid"]] = answer


def _version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])


def _holds(wanted: Manifest, live: Manifest) -> bool:
    """Whether a status says all of `wanted`, but for the times of conditions."""

    def plain(status: Manifest) -> Manifest:
        conditions = {item["type"]: (item["status"], item.get("reason")) for item in status.get("conditions") or []}
        return {**{name: value for name, value in status.items() if value is not None}, "conditions": conditions}

    return plain(wanted).items() <= plain(live).items()


@asynccontextmanager
async def simulated_workloads(
    kubeconfig_file: Path,
    *,
    job_ends: JobEnds = _succeed,
    server_starts: ServerStarts = _become_ready,
    delays: Delays = Delays(),
    shows_running: bool = True,
    job_pods: bool = True,
    deployment_pods: bool = False,
    selector: str = "",
    garbage: Sequence[Resource] = (),
) -> AsyncIterator[Simulator]:
    """A simulator at work in this event loop, as whom the kubeconfig names; the arguments are those of `Simulator`.

    `garbage` are the resources whose objects are deleted when their owners are gone; owners must be among them.
    """
    async with APIClient(kubeconfig.load(kubeconfig_file)) as api:
        simulator = Simulator(
            api,
            job_ends=job_ends,
            server_starts=server_starts,
            delays=delays,
            shows_running=shows_running,
            job_pods=job_pods,
            deployment_pods=deployment_pods,
            selector=selector,
        )
        tasks = [asyncio.create_task(simulator.run(), name="simulator")]
        if garbage:
            tasks.append(asyncio.create_task(GarbageCollector(api, garbage).run(), name="garbage collector"))
        try:
            await simulator.synced.wait()
            yield simulator
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.result()
