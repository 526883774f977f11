"""One run of a container: a process with a session of its own, its log, its end and the end of all that it started."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuron_localcluster import proc
from neuron_localcluster.node.logs import ContainerLog
from neuron_localcluster.node.substitution import Paths

CONTAINER_VARIABLE = "NEURON_LOCALCLUSTER_CONTAINER"
"""Marks every process of a container with the container's id, however deep it was started."""

_SHIM = Path(__file__).with_name("exec_shim.py")
_DRAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Launch:
    """What to run. `program` is the absolute path of `arguments[0]`; `paths` are those that the container sees."""

    container_id: str
    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    paths: Paths


class StartError(Exception):
    """The program of a container cannot be run; the message is what a container runtime would say."""


class ContainerProcess:
    """A running process; made by `start`, on the main thread: the kernel ties the process to the thread that forks."""

    def __init__(self, process: subprocess.Popen[bytes], launch: Launch, log: ContainerLog | None) -> None:
        self.pid = process.pid
        self._process = process
        self._launch = launch
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int] = self._loop.create_future()
        self._drained: asyncio.Future[None] = self._loop.create_future()
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._on_exit)

    @classmethod
    async def start(cls, launch: Launch, log: ContainerLog | None) -> ContainerProcess:
        """Run it; output goes to the log, or nowhere. Raises OSError when the process cannot be created."""
        command = [sys.executable, "-I", "-S", str(_SHIM), str(os.getpid()), launch.program, *launch.arguments]
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if log else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            env={**launch.environment, CONTAINER_VARIABLE: launch.container_id},
            cwd=launch.folder,
            start_new_session=True,
        )
        self = cls(process, launch, log)
        if log is None or process.stdout is None:
            self._drained.set_result(None)
        else:
            await self._loop.connect_read_pipe(lambda: _Output(log, self._drained), process.stdout)
        return self

    def signal(self, number: int) -> None:
        """Signal the process group that the container leads."""
        if self._exited.done():
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        """SIGKILL everything of the container."""
        if self._exited.done():
            return
        self.signal(signal.SIGKILL)
        kill_processes(members(self._launch.container_id, self.pid))

    async def wait(self) -> int:
        """The exit code as containers have it (128 + signal), once all processes of the container are gone."""
        code = await asyncio.shield(self._exited)
        kill_processes(members(self._launch.container_id, self.pid))
        await asyncio.wait([self._drained], timeout=_DRAIN_SECONDS)
        if self._log is not None:
            self._log.close()
        return code if code >= 0 else 128 - code

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exited.set_result(self._process.wait())


class _Output(asyncio.Protocol):
    def __init__(self, log: ContainerLog, drained: asyncio.Future[None]) -> None:
        self._log = log
        self._drained = drained

    def data_received(self, data: bytes) -> None:
        if not self._log.closed:
            self._log.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._drained.done():
            self._drained.set_result(None)


def members(container_id: str, leader: int) -> list[proc.Process]:
    """Every living process of a container: its session's, and those that have left it but carry its mark."""
    session = [process for process in proc.all_processes() if process.session == leader]
    pids = {process.pid for process in session}
    marked = proc.with_environment(CONTAINER_VARIABLE, container_id)
    return session + [process for process in marked if process.pid not in pids]


def kill_processes(processes: list[proc.Process]) -> None:
    for process in processes:
        proc.signal_process(process, signal.SIGKILL)


def program(name: str, search_path: str, folder: Path) -> str:
    """The absolute path of a program as a container names it; raises StartError when it cannot be run."""
    if not folder.is_dir():
        raise StartError(f'the working directory "{folder}" does not exist')
    found = shutil.which(str(folder / name) if "/" in name else name, path=search_path)
    if found is None:
        where = "no such file, or not executable" if "/" in name else "executable file not found in $PATH"
        raise StartError(f'exec: "{name}": {where}')
    return found


async def run_beside(launch: Launch, command: list[str]) -> int:
    """Run a command in a container's surroundings, as exec probes do; ends it when cancelled. Raises StartError."""
    arguments = tuple(launch.paths.localize(word) for word in command)
    beside = dataclasses.replace(
        launch,
        # An id of its own: its end must take neither the container nor another probe with it.
        container_id=f"{launch.container_id}-{uuid.uuid4().hex}",
        program=program(arguments[0], launch.environment["PATH"], launch.folder),
        arguments=arguments,
    )
    process = await ContainerProcess.start(beside, None)
    try:
        return await process.wait()
    finally:
        process.kill()
