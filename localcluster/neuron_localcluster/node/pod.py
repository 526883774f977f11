"""One pod on its node, from being bound to being gone."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping

import aiohttp

from neuron_localcluster.node import clock, status
from neuron_localcluster.node.api import APIError
from neuron_localcluster.node.config import NodeConfig
from neuron_localcluster.node.container import Container
from neuron_localcluster.node.reporting import StatusReporter
from neuron_localcluster.node.sandbox import HOST_IP, Sandbox, Shared
from neuron_localcluster.node.state import ContainerState, Manifest, Running, Waiting, after_lost_agent, from_status
from neuron_localcluster.node.status import PodState, pod_status

_log = logging.getLogger(__name__)

_FINISHED = ("Succeeded", "Failed")
_RETRY_SECONDS = 1.0


class PodWorker:
    """Runs one pod. `manifest` is its newest version; the spec of a pod does not change."""

    def __init__(self, shared: Shared, node: NodeConfig, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        self.manifest = manifest
        self.path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._api = shared.api
        self._sandbox = Sandbox(shared, node, manifest)
        self.folder = self._sandbox.folder
        self._policy: str = manifest["spec"].get("restartPolicy", "Always")
        written: Manifest = manifest.get("status") or {}
        self._start_time: str = written.get("startTime") or clock.seconds_text(clock.now())
        self._failure: tuple[str, str] | None = None
        # A pod that somebody has given up, or that an earlier agent has seen end, never runs again.
        self._ended = self._given_up = written.get("phase") in _FINISHED
        self._disrupted = False
        init_policy = "Never" if self._policy == "Never" else "OnFailure"
        self._inits = self._containers_of("initContainers", "initContainerStatuses", init_policy)
        self._containers = self._containers_of("containers", "containerStatuses", self._policy)
        self._grace: float | None = None
        """Seconds that its processes were given to end, None while they may run."""
        self._deleting = asyncio.Event()
        self._gone = False
        self._reporter = StatusReporter(self._api, self.path, metadata["uid"], self._status, written)
        if self._given_up:
            self._reporter.close()

    @property
    def ip(self) -> str:
        return self._sandbox.ip

    @property
    def is_ready(self) -> bool:
        """Whether Services may send it connections."""
        return self._grace is None and not self._ended and status.is_ready([c.state for c in self._containers])

    def container(self, name: str) -> Container | None:
        """One of its containers or init containers."""
        return next((c for c in (*self._containers, *self._inits) if c.spec["name"] == name), None)

    async def run(self) -> None:
        """Returns once the pod is gone from the API server, or `abandon` was called."""
        tasks = [asyncio.create_task(self._reporter.run()), asyncio.create_task(self._sandbox.refresh())]
        deadline = self._deadline()
        try:
            self._reporter.changed()
            if not self._ended:
                await self._run_to_the_end()
            self._ended = True
            self._reporter.changed()
            await self._deleting.wait()
            await self._delete()
        finally:
            if deadline:
                deadline.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._sandbox.close()

    def observe(self, manifest: Manifest) -> None:
        """Take a newer version: it may be deleted, or given up by somebody else."""
        self.manifest = manifest
        if manifest["metadata"].get("deletionTimestamp"):
            self._deleting.set()
            self._stop(manifest["metadata"].get("deletionGracePeriodSeconds", self._sandbox.grace))
        finished = (manifest.get("status") or {}).get("phase") in _FINISHED
        if finished and not self._ended and not self._failure:
            self._given_up = True
            self._reporter.close()
            self._stop(0)

    def vanish(self) -> None:
        """The pod is no longer in the API server: end it at once."""
        self._gone = True
        self._reporter.close()
        self._deleting.set()
        self._stop(0)

    def abandon(self, grace: float) -> None:
        """The agent ends: end the processes, and leave the pod as it is for the next agent."""
        self._gone = True
        self._reporter.close()
        self._deleting.set()
        for container in (*self._inits, *self._containers):
            container.stop(grace, forget=True)

    async def _run_to_the_end(self) -> None:
        try:
            await self._run_containers()
        except Exception as error:
            # None of its processes runs by now. Failed, it can be replaced and deleted; else it would hang for ever.
            _log.exception("%s", self.path)
            self._failure = self._failure or ("NodeAgentError", f"the node agent could not run it: {_cause(error)!r}")

    async def _run_containers(self) -> None:
        for init in self._inits:
            await init.run()
            if self._grace is not None or not init.succeeded:
                return
        self._set_reason("PodInitializing", "ContainerCreating")
        async with asyncio.TaskGroup() as group:
            for container in self._containers:
                group.create_task(container.run())

    def _stop(self, grace: float) -> None:
        # Every later version of a deleted pod says so again: a process gets SIGTERM once.
        if self._grace is not None and grace >= self._grace:
            return
        self._grace = grace
        for container in (*self._inits, *self._containers):
            container.stop(grace)

    def _deadline(self) -> asyncio.TimerHandle | None:
        seconds = self.manifest["spec"].get("activeDeadlineSeconds")
        if seconds is None or self._ended:
            return None
        age = (clock.now() - clock.parse(self._start_time)).total_seconds()
        return asyncio.get_running_loop().call_later(max(0.0, seconds - age), self._expire)

    def _expire(self) -> None:
        if self._ended or self._given_up:
            return
        self._failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        self._reporter.changed()
        self._stop(self._sandbox.grace)

    async def _delete(self) -> None:
        if self._gone:
            return
        await self._reporter.settle()
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.manifest["metadata"]["uid"]}}
        while not self._gone:
            try:
                await self._api.delete(self.path, options)
                return
            except APIError as error:
                if error.status in (404, 409):
                    return
                _log.warning("deleting %s: %s", self.path, error)
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.warning("deleting %s: %r", self.path, error)
            await asyncio.sleep(_RETRY_SECONDS)

    def _status(self) -> Manifest:
        pod = PodState(
            restart_policy=self._policy,
            ip=self._sandbox.ip,
            host_ip=HOST_IP,
            start_time=self._start_time,
            init_containers=tuple(container.state for container in self._inits),
            containers=tuple(container.state for container in self._containers),
            ended=self._ended,
            failure=self._failure,
            disrupted=self._disrupted,
        )
        previous = (self.manifest.get("status") or {}).get("conditions") or ()
        return pod_status(pod, previous, clock.seconds_text(clock.now()))

    def _containers_of(self, specs: str, statuses: str, policy: str) -> tuple[Container, ...]:
        spec = self.manifest["spec"]
        reported = {entry["name"]: entry for entry in (self.manifest.get("status") or {}).get(statuses) or ()}
        reason = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
        return tuple(
            Container(item, self._known_state(item, reported, reason), self._sandbox, policy, self._on_change)
            for item in spec.get(specs) or ()
        )

    def _known_state(self, spec: Manifest, reported: Mapping[str, Manifest], reason: str) -> ContainerState:
        record = self.folder.container(spec["name"]).kept()
        if record is not None:
            state = record.state
        elif spec["name"] in reported:
            state = from_status(reported[spec["name"]])
        else:
            return ContainerState(spec["name"], spec["image"], Waiting(reason))
        self._disrupted |= isinstance(state.state, Running) and self._policy == "Never"
        return after_lost_agent(state, clock.seconds_text(clock.now()))

    def _set_reason(self, before: str, after: str) -> None:
        for container in self._containers:
            if container.state.state == Waiting(before):
                container.state = dataclasses.replace(container.state, state=Waiting(after))

    def _on_change(self) -> None:
        self._reporter.changed()


def _cause(error: Exception) -> BaseException:
    return error.exceptions[0] if isinstance(error, ExceptionGroup) else error
