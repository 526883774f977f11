"""Whether one run of a container has started, is ready and lives, by its probes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from neuron_localcluster.node.probes import Probe

PROBE_KINDS = ("startup", "liveness", "readiness")


class Health:
    """`changed` gets (started, ready); `failed` gets the kind of the probe that demands a restart, and why."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        changed: Callable[[bool, bool], None],
        failed: Callable[[str, str], None],
    ) -> None:
        self._probes = probes
        self._changed = changed
        self._failed = failed
        self.started = "startup" not in probes
        self.ready = self.started and "readiness" not in probes

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Probe while the block runs."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        if "startup" in self._probes:
            async for success, reason in self._probes["startup"].verdicts():
                if success:
                    break
                self._failed("startup", reason)
                return
            self._changed(True, "readiness" not in self._probes)
        async with asyncio.TaskGroup() as group:
            if "liveness" in self._probes:
                group.create_task(self._keep_alive(self._probes["liveness"]))
            if "readiness" in self._probes:
                group.create_task(self._keep_ready(self._probes["readiness"]))

    async def _keep_alive(self, probe: Probe) -> None:
        async for success, reason in probe.verdicts():
            if not success:
                self._failed("liveness", reason)
                return

    async def _keep_ready(self, probe: Probe) -> None:
        async for success, _ in probe.verdicts():
            self._changed(True, success)
