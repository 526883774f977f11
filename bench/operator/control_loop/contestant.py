"""An operator as a process of its own: how it is started, what it takes, and when it is quiet."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import yaml

from neuron_localcluster.standins import aws

OURS = "neuron-operator"
BASELINE = "kopf handlers"

_MODULES = {OURS: "neuron_operator", BASELINE: "control_loop.baseline"}
# By the first word of the user agent that their requests carry in the audit log.
USER_AGENTS = {OURS: ("neuron-operator",), BASELINE: ("kopf-handlers", "kopf")}

_PORT = 8080
_SAMPLE_SECONDS = 0.1
_LEADER = re.compile(r"^neuron_operator_leader ([0-9.]+)$", re.MULTILINE)
_RECONCILES = re.compile(r"^neuron_operator_reconcile_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Endpoints:
    """What an operator talks to beside the API server."""

    hub: str
    store: str


class Contestant:
    """A running operator."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, log: Path, started: float) -> None:
        self._process = process
        self._seen = psutil.Process(process.pid)
        self._address = address
        self._log = log
        self.started = started
        """On the monotonic clock."""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def resident(self) -> int:
        """Resident bytes."""
        return int(self._seen.memory_info().rss)

    @property
    def processor_seconds(self) -> float:
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    async def quiet(self, window: float = 2.0, share: float = 0.15, longest: float = 900.0) -> float:
        """Wait until it takes less than `share` of a processor for `window` seconds.

        Returns when that began, on the monotonic clock.
        """
        deadline = time.monotonic() + longest
        began, used = time.monotonic(), self.processor_seconds
        while time.monotonic() - began < window:
            await asyncio.sleep(_SAMPLE_SECONDS)
            self.check()
            now, total = time.monotonic(), self.processor_seconds
            if now > deadline:
                raise TimeoutError(f"the operator is not quiet after {longest} s")
            # Not per sample: a processor second is counted in steps of ten milliseconds.
            if total - used > share * max(now - began, 0.5):
                began, used = now, total
        return began

    async def leading(self) -> None:
        """Wait until it leads, as its metrics say."""
        await self._metric(_LEADER, 1)

    async def reconciled(self, count: int) -> float:
        """Wait until so many reconciles have ended, as its metrics say; returns when, on the monotonic clock."""
        return await self._metric(_RECONCILES, count)

    async def _metric(self, pattern: re.Pattern[str], least: int, longest: float = 300.0) -> float:
        deadline = time.monotonic() + longest
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://{self._address}:{_PORT}/metrics") as answer:
                        text = await answer.text()
                except aiohttp.ClientConnectionError:
                    text = ""
                now = time.monotonic()
                if sum(float(found) for found in pattern.findall(text)) >= least:
                    return now
                self.check()
                if now > deadline:
                    raise TimeoutError(f"{pattern.pattern} is not {least} after {longest} s: {self.tail()}")
                await asyncio.sleep(_SAMPLE_SECONDS)

    def check(self) -> None:
        """Raise when it has ended."""
        if self._process.returncode is not None:
            raise RuntimeError(f"the operator has ended ({self._process.returncode}): {self.tail()}")

    def tail(self) -> str:
        return self._log.read_text()[-3000:]


@asynccontextmanager
async def running(
    name: str, kubeconfig: Path, endpoints: Endpoints, folder: Path, address: str, profile: Path | None = None
) -> AsyncIterator[Contestant]:
    """Start an operator, and end it as the kubelet does."""
    settings, log = folder / "settings.yaml", folder / f"{name.replace(' ', '-')}.log"
    settings.write_text(yaml.safe_dump(_settings(endpoints)))
    environment = _environment(os.environ) | {
        **aws.CREDENTIALS,
        "AWS_REGION": aws.REGION,
        "AWS_ENDPOINT_URL_S3": endpoints.store,
        "KUBECONFIG": str(kubeconfig),
        "NEURON_OPERATOR_SETTINGS": str(settings),
        "POD_NAMESPACE": "default",
        "BIND_ADDRESS": address,
    }
    profiled = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
    command = [sys.executable, *profiled, "-m", _MODULES[name]]
    started = time.monotonic()
    with log.open("a") as output:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=output, stderr=output)
    contestant = Contestant(process, address, log, started)
    try:
        yield contestant
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 60)
            except TimeoutError:
                process.kill()
                await process.wait()


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Without proxies: all that is talked to is on this machine."""
    return {name: value for name, value in own.items() if not name.lower().endswith("_proxy")}


def _settings(endpoints: Endpoints) -> dict[str, object]:
    return {
        "cpu": {
            "compileImage": "neuron-operator.dev/cpu-compile:bench",
            "servingImage": "neuron-operator.dev/cpu:bench",
            "toolchain": {"torch": "2", "cxx": "g++-12", "march": "x86-64-v3"},
        },
        "huggingFace": {"endpoint": endpoints.hub},
    }
