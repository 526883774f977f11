"""The operator as a process of its own on the run's cluster, without a pod: how it starts, leads, and ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

_SETTINGS = {
    "cpu": {
        "compileImage": "neuron-operator.dev/cpu-compile:test",
        "servingImage": "neuron-operator.dev/cpu:test",
        "toolchain": {"torch": "2", "cxx": "g++-12", "march": "x86-64-v3"},
    }
}
_PORT = 8080


class OperatorProcess:
    """One replica."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, log: Path) -> None:
        self._process = process
        self._address = address
        self._log = log

    def terminate(self) -> None:
        """What the kubelet does first to a container that is to end."""
        self._process.send_signal(signal.SIGTERM)

    def is_running(self) -> bool:
        return self._process.returncode is None

    async def ended(self, seconds: float = 60) -> tuple[int, float]:
        """Exit code, and the seconds that it took from now on."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                code = await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"the operator has not ended within {seconds} s\n{self._log.read_text()}") from None
        return code, time.monotonic() - started

    async def answers(self, path: str) -> int | None:
        """Status of an HTTP endpoint; None while nothing listens."""
        url = f"http://{self._address}:{_PORT}{path}"
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return None

    @asynccontextmanager
    async def scraped(self) -> AsyncIterator[None]:
        """Hold the connection that metrics were read over, as Prometheus does."""
        url = f"http://{self._address}:{_PORT}/metrics"
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as response:
                await response.read()
            yield

    def log(self, level: str | None = None) -> list[dict[str, Any]]:
        """What it has logged, of one level if one is named."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if level in (None, line["level"])]

    def complaints(self) -> list[dict[str, Any]]:
        """The errors it has logged, but those of requests that kopf had begun when it closed its connections."""
        errors = self.log("CRITICAL") + self.log("ERROR")
        return [line for line in errors if not is_cut_off(line["logger"], line["message"])]


def is_cut_off(logger: str, message: str) -> bool:
    """Whether a line is kopf's about a request that it ended itself. It depends on the moment, and means nothing."""
    return logger.startswith("kopf.") and message.startswith("Request attempt #")


@asynccontextmanager
async def operator_process(
    kubeconfig: Path, namespace: str, folder: Path, *, name: str, address: str
) -> AsyncIterator[OperatorProcess]:
    """Start a replica that keeps its lease in a namespace, and kill it at the end if it still runs."""
    settings, log = folder / "settings.yaml", folder / f"{name}.log"
    settings.write_text(yaml.safe_dump(_SETTINGS))
    environment = os.environ | {
        "KUBECONFIG": str(kubeconfig),
        "NEURON_OPERATOR_SETTINGS": str(settings),
        "POD_NAME": name,
        "POD_NAMESPACE": namespace,
        "BIND_ADDRESS": address,
        # Nothing here gets as far as the store; without a region no client of it can be made.
        "AWS_REGION": "us-east-1",
    }
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "neuron_operator", env=environment, stdout=output, stderr=output
        )
    try:
        yield OperatorProcess(process, address, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
