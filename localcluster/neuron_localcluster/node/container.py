"""The life of one container: start, probes, end, and again as the restart policy says."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import datetime

import aiohttp

from neuron_localcluster.node import clock, quantity
from neuron_localcluster.node.api import APIError
from neuron_localcluster.node.backoff import Backoff, should_restart
from neuron_localcluster.node.environment import ConfigError
from neuron_localcluster.node.folders import Record, identify
from neuron_localcluster.node.health import PROBE_KINDS, Health
from neuron_localcluster.node.logs import ContainerLog, last_words
from neuron_localcluster.node.memory import Watched
from neuron_localcluster.node.probes import Probe
from neuron_localcluster.node.process import ContainerProcess, Launch, StartError, run_beside
from neuron_localcluster.node.sandbox import Sandbox
from neuron_localcluster.node.state import (
    KILLED,
    ContainerState,
    Manifest,
    Running,
    State,
    Terminated,
    Waiting,
)

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 3.0
_START_FAILED = 128
_MESSAGE_BYTES = 4096


class Container:
    """One container of a pod. `changed` is called after every change of `state`."""

    def __init__(
        self, spec: Manifest, state: ContainerState, sandbox: Sandbox, policy: str, changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.state = state
        self.log: ContainerLog | None = None
        self._sandbox = sandbox
        self._policy = policy
        self._changed = changed
        self._folder = sandbox.folder.container(spec["name"])
        self._backoff = Backoff()
        self._ran_for = 0.0
        self._stopping = asyncio.Event()
        self._process: ContainerProcess | None = None
        self._out_of_memory = False
        self._forgetting = False

    @property
    def succeeded(self) -> bool:
        return isinstance(self.state.state, Terminated) and self.state.state.exit_code == 0

    async def run(self) -> None:
        """Returns when the container has ended for good or was stopped."""
        while not self._stopping.is_set():
            if isinstance(self.state.state, Terminated):
                if not should_restart(self._policy, self.state.state.exit_code):
                    return
                await self._back_off()
            try:
                if prepared := await self._prepare():
                    await self._run_once(*prepared)
            except (StartError, OSError, ValueError) as error:
                # ValueError: an environment or command line that no process can have, with a null byte in it.
                self._finish(_START_FAILED, "StartError", str(error), clock.now(), restarts=self._next_restarts())

    def stop(self, grace: float, *, forget: bool = False) -> None:
        """End it: SIGTERM, and SIGKILL after `grace` seconds. `forget`: its end is not kept, as if it ran on."""
        self._forgetting |= forget
        self._stopping.set()
        if self._process is not None:
            _end(self._process, grace)

    async def _back_off(self) -> None:
        delay = self._backoff.delay(self._ran_for)
        if delay == 0:
            return
        message = f"back-off {delay:.0f}s restarting failed container={self.spec['name']} pod={self._pod_name}"
        self._enter(Waiting("CrashLoopBackOff", message))
        await self._pause(delay)

    async def _prepare(self) -> tuple[Launch, dict[str, Probe]] | None:
        """What to run and to probe, once all it needs is there; None when stopped before that. Raises StartError."""
        image = self._sandbox.image(self.spec)
        if image is None:
            await self._wait_for_image()
            return None
        while not self._stopping.is_set():
            try:
                launch = await self._sandbox.launch(self.spec, image)
                return launch, self._probes(launch)
            except (ConfigError, ValueError) as error:
                self._enter(Waiting("CreateContainerConfigError", str(error)))
            except (APIError, aiohttp.ClientError, TimeoutError) as error:
                _log.warning("%s, container %s: %s", self._pod_name, self.spec["name"], error)
            await self._pause(_RETRY_SECONDS)
        return None

    async def _wait_for_image(self) -> None:
        # The image table is fixed while the agent runs: after the first refusal there is nothing to try again.
        image = self.spec["image"]
        known = f'failed to pull image "{image}": it is not in the image table of this local cluster'
        self._enter(Waiting("ErrImagePull", known))
        await self._pause(_RETRY_SECONDS)
        if not self._stopping.is_set():
            self._enter(Waiting("ImagePullBackOff", f'Back-off pulling image "{image}": {known}'))
            await self._stopping.wait()

    async def _run_once(self, launch: Launch, probes: dict[str, Probe]) -> None:
        restarts = self._next_restarts()
        self._folder.drop_log(restarts - 2)
        self._out_of_memory = False
        begun = clock.now()
        with closing(ContainerLog(self._folder.log(restarts))) as self.log:
            code = await self._attend(await ContainerProcess.start(launch, self.log), launch, probes, begun, restarts)
        code = KILLED if self._out_of_memory else code
        reason = "OOMKilled" if self._out_of_memory else "Completed" if code == 0 else "Error"
        self._finish(code, reason, self._termination_message(code), begun, restarts)

    async def _attend(
        self, process: ContainerProcess, launch: Launch, probes: dict[str, Probe], begun: datetime, restarts: int
    ) -> int:
        self._process = process
        health = Health(probes, self._set_health, self._fail_probe)
        container_id = f"process://{launch.container_id}"
        running = Running(clock.seconds_text(begun))
        try:
            ready = {"started": health.started, "ready": health.ready}
            self._enter(running, restarts=restarts, container_id=container_id, **ready)
            self._keep(Record(self.state, identify(process.pid)))
            if self._stopping.is_set():
                _end(process, 0)
            async with self._memory_held(process), health.watched():
                return await process.wait()
        except BaseException:
            # A process that nobody attends to must not go on.
            process.kill()
            await process.wait()
            raise
        finally:
            self._process = None

    def _next_restarts(self) -> int:
        ran_before = isinstance(self.state.state, Terminated) or self.state.last is not None
        return self.state.restarts + 1 if ran_before else 0

    def _finish(self, code: int, reason: str, message: str, begun: datetime, restarts: int) -> None:
        ended = clock.now()
        self._ran_for = (ended - begun).total_seconds()
        times = clock.seconds_text(begun), clock.seconds_text(ended)
        self._enter(Terminated(code, reason, *times, message, self.state.container_id), restarts=restarts)
        if not self._forgetting:
            self._keep(Record(self.state, None))

    def _keep(self, record: Record) -> None:
        try:
            self._folder.keep(record)
        except OSError as error:
            # A full disk: the next agent will know less, which is no reason to end the container.
            _log.warning("%s, container %s: its state is not kept: %s", self._pod_name, self.spec["name"], error)

    def _enter(self, state: State, **fields: object) -> None:
        before = self.state.state
        last = before if isinstance(before, Terminated) else self.state.last
        values: dict[str, object] = {"state": state, "last": last, "started": False, "ready": False, **fields}
        after = dataclasses.replace(self.state, **values)  # type: ignore[arg-type]
        if after != self.state:
            self.state = after
            self._changed()

    def _set_health(self, started: bool, ready: bool) -> None:
        if (self.state.started, self.state.ready) != (started, ready):
            self.state = dataclasses.replace(self.state, started=started, ready=ready)
            self._changed()

    def _termination_message(self, code: int) -> str:
        try:
            message = self._folder.termination_message.read_bytes()[:_MESSAGE_BYTES].decode(errors="replace")
        except OSError:
            message = ""
        falls_back = self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and code != 0
        return last_words(self.log.path) if falls_back and not message and self.log else message

    def _probes(self, launch: Launch) -> dict[str, Probe]:
        async def run(command: list[str]) -> int:
            return await run_beside(launch, command)

        kinds = [kind for kind in PROBE_KINDS if self.spec.get(f"{kind}Probe")]
        return {kind: Probe(self.spec[f"{kind}Probe"], self.spec, self._sandbox.ip, run) for kind in kinds}

    def _fail_probe(self, kind: str, reason: str) -> None:
        _log.info("%s, container %s: %s probe failed: %s", self._pod_name, self.spec["name"], kind, reason)
        if self._process is not None:
            grace = self.spec[f"{kind}Probe"].get("terminationGracePeriodSeconds")
            _end(self._process, self._sandbox.grace if grace is None else grace)

    @asynccontextmanager
    async def _memory_held(self, process: ContainerProcess) -> AsyncIterator[None]:
        limit = ((self.spec.get("resources") or {}).get("limits") or {}).get("memory")
        if limit is None:
            yield
            return

        def exceeded() -> None:
            self._out_of_memory = True
            process.kill()

        guard = self._sandbox.shared.memory
        guard.watch(Watched(process.pid, int(quantity.parse(limit)), exceeded))
        try:
            yield
        finally:
            guard.forget(process.pid)

    @property
    def _pod_name(self) -> str:
        metadata = self._sandbox.pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _end(process: ContainerProcess, grace: float) -> None:
    if grace <= 0:
        process.kill()
        return
    process.signal(signal.SIGTERM)
    asyncio.get_running_loop().call_later(grace, process.kill)
