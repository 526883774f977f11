"""One replica of the operator: a real process that is started again when it ends, as the kubelet does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from faults.api_proxy import ApiProxy, Door
from support.addresses import own_address

# The kubelet waits 10 seconds to 5 minutes. Without any wait, processes that do not get to lead take all of a machine.
_FIRST_RESTART_SECONDS = 0.05
_LONGEST_RESTART_SECONDS = 2.0


@dataclass
class Replica:
    """Starts, and starts again. `environment` is what all of its processes get."""

    name: str
    proxy: ApiProxy
    zygote: Path
    folder: Path
    environment: dict[str, str]
    short_lease: bool
    starts: int = 0
    exit_codes: list[int] = field(default_factory=list)
    pid: int | None = None
    door: Door | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if there is one."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    async def _run(self) -> None:
        pause = _FIRST_RESTART_SECONDS
        with own_address() as address:
            while True:
                self.starts += 1
                async with self.proxy.door(self.name, self.kill) as self.door:
                    await self._run_once(address, self.door)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_RESTART_SECONDS)

    async def _run_once(self, address: str, door: Door) -> None:
        kubeconfig = self.folder / f"{self.name}.kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(f"http://127.0.0.1:{door.port}")))
        environment = {"KUBECONFIG": str(kubeconfig), "POD_NAME": self.name, "BIND_ADDRESS": address}
        told = {"log": str(self.log), "environment": self.environment | environment, "short_lease": self.short_lease}
        reader, writer = await asyncio.open_unix_connection(str(self.zygote))
        try:
            writer.write(json.dumps(told).encode() + b"\n")
            self.pid = int(await reader.readline())
            self.exit_codes.append(int(await reader.readline()))
        finally:
            if not reader.at_eof():
                self.kill()
            self.pid = None
            writer.close()


@asynccontextmanager
async def replica_running(replica: Replica) -> AsyncIterator[Replica]:
    """Keep a replica running; kill it at the end."""
    running = asyncio.create_task(replica._run(), name=replica.name)
    try:
        yield replica
    finally:
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled():
            running.result()


def _kubeconfig(server: str) -> dict[str, object]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
