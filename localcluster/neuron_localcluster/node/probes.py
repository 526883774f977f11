"""Startup, liveness and readiness probes: HTTP, TCP and commands, with the kubelet's thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from neuron_localcluster.node.environment import ConfigError
from neuron_localcluster.node.process import StartError
from neuron_localcluster.node.state import Manifest

RunCommand = Callable[[list[str]], Awaitable[int]]
"""Runs a command in the container's environment and answers its exit code; ends it when cancelled."""


@dataclass(frozen=True)
class ProbeSettings:
    initial_delay: float
    period: float
    timeout: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Manifest) -> ProbeSettings:
        return cls(
            initial_delay=probe.get("initialDelaySeconds", 0),
            period=probe.get("periodSeconds", 10),
            timeout=probe.get("timeoutSeconds", 1),
            success_threshold=probe.get("successThreshold", 1),
            failure_threshold=probe.get("failureThreshold", 3),
        )


class Tally:
    """Counts results of one probe in a row. Pure."""

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._last: bool | None = None
        self._count = 0

    def verdict(self, success: bool) -> bool | None:
        """True or False once so many equal results have come in a row as the probe demands, else None."""
        self._count = self._count + 1 if success is self._last else 1
        self._last = success
        needed = self._settings.success_threshold if success else self._settings.failure_threshold
        return success if self._count >= needed else None


class Probe:
    """One probe of one container. Raises ConfigError on creation when the handler is not supported."""

    def __init__(self, manifest: Manifest, container: Manifest, ip: str, run: RunCommand) -> None:
        self.settings = ProbeSettings.of(manifest)
        self._check = _handler(manifest, container, ip, run)

    async def verdicts(self) -> AsyncIterator[tuple[bool, str]]:
        """Probe for ever; each verdict comes with what was wrong, from the moment the container has started."""
        tally = Tally(self.settings)
        await asyncio.sleep(self.settings.initial_delay)
        while True:
            success, reason = await self._once()
            verdict = tally.verdict(success)
            if verdict is not None:
                yield verdict, reason
            await asyncio.sleep(self.settings.period)

    async def _once(self) -> tuple[bool, str]:
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await self._check()
        except TimeoutError:
            return False, f"no answer within {self.settings.timeout:g} s"
        except (aiohttp.ClientError, OSError, StartError) as error:
            return False, str(error) or repr(error)


def port_number(port: int | str, container: Manifest) -> int:
    """The number of a port that is given by number or by the name of a container port."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for candidate in container.get("ports") or ():
        if candidate.get("name") == port:
            return int(candidate["containerPort"])
    raise ConfigError(f'container "{container["name"]}" has no port named "{port}"')


def _handler(
    manifest: Manifest, container: Manifest, ip: str, run: RunCommand
) -> Callable[[], Awaitable[tuple[bool, str]]]:
    if http := manifest.get("httpGet"):
        port = port_number(http["port"], container)
        path = "/" + http.get("path", "/").removeprefix("/")
        url = f"{http.get('scheme', 'HTTP').lower()}://{http.get('host') or ip}:{port}{path}"
        headers = {header["name"]: header["value"] for header in http.get("httpHeaders") or ()}
        return lambda: _http(url, headers)
    if tcp := manifest.get("tcpSocket"):
        host, port = tcp.get("host") or ip, port_number(tcp["port"], container)
        return lambda: _tcp(host, port)
    if command := manifest.get("exec"):
        return lambda: _command(command.get("command") or [], run)
    raise ConfigError(f'container "{container["name"]}": only httpGet, tcpSocket and exec probes are supported here')


async def _http(url: str, headers: dict[str, str]) -> tuple[bool, str]:
    # As the kubelet: a connection of its own, no certificate check, and a redirect elsewhere is success.
    connector = aiohttp.TCPConnector(ssl=False, force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector, headers={"User-Agent": "kube-probe/1.34"} | headers) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        success = 200 <= response.status < 400
        return success, "" if success else f"HTTP probe failed with statuscode: {response.status}"


async def _tcp(host: str, port: int) -> tuple[bool, str]:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return True, ""


async def _command(command: list[str], run: RunCommand) -> tuple[bool, str]:
    code = await run(command)
    return code == 0, "" if code == 0 else f"exec probe ended with exit code {code}"
