"""Background processes that outlive their starter: pid files, logs, start and stop.

Each process leads a session of its own, so that Ctrl-C in the starter's terminal does not reach it. A pid file names
the process by boot, pid and start time; no other process is ever signaled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neuron_localcluster import proc
from neuron_localcluster.errors import StageFailed
from neuron_localcluster.files import write_whole

# Marks everything that a cluster has started, however deep: children inherit it.
OWNER_VARIABLE = "NEURON_LOCALCLUSTER_STATE"
_POLL_SECONDS = 0.03
_KILL_SECONDS = 5.0


@dataclass(frozen=True)
class ProcessSpec:
    """A process to run. `environment` is added to the starter's; `inputs` are files whose change means a restart.

    `ready_file` is what the process writes once it is ready; one left by an earlier run is removed before the start.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()
    grace_seconds: float = 10.0
    ready_file: Path | None = None

    def fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps([self.command, sorted(self.environment.items())]).encode())
        for path in self.inputs:
            digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _PidFile:
    boot: str
    pid: int
    started: int
    grace: float
    fingerprint: str


class ProcessTable:
    """The processes of one cluster, remembered in `run_dir`, writing to `log_dir`."""

    def __init__(self, owner: str, run_dir: Path, log_dir: Path) -> None:
        self._owner = owner
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._exit_codes: dict[str, int] = {}

    def log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def find(self, name: str) -> proc.Process | None:
        """The living process of that name."""
        record = self._record(name)
        if record is None or record.boot != proc.boot_id():
            return None
        self._remember_exit(name, _reap(record.pid))
        process = proc.look_up(record.pid)
        return process if process and process.started == record.started else None

    def start(self, spec: ProcessSpec) -> bool:
        """Start the process; False when it already runs just so. One that runs otherwise is replaced."""
        fingerprint = spec.fingerprint()
        if self.find(spec.name):
            record = self._record(spec.name)
            if record and record.fingerprint == fingerprint:
                return False
            self.stop([spec.name])
        if spec.ready_file:
            spec.ready_file.unlink(missing_ok=True)
        process = self._spawn(spec)
        record = _PidFile(proc.boot_id(), process.pid, process.started, spec.grace_seconds, fingerprint)
        write_whole(self._pid_file(spec.name), json.dumps(dataclasses.asdict(record), indent=2).encode())
        return True

    def wait_until(self, name: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait for the condition while the process lives; raises StageFailed with its log when it does not come."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.find(name):
                raise StageFailed(name, f"the process {self._ending(name)}", self.log(name))
            if time.monotonic() > deadline:
                raise StageFailed(name, f"not ready after {seconds:.0f} s", self.log(name))
            time.sleep(_POLL_SECONDS)

    def stop(self, names: Iterable[str]) -> None:
        """End these processes together with all that they have started: TERM, their grace, then KILL."""
        living = [(name, process) for name in names if (process := self.find(name))]
        everything = list(proc.all_processes()) if living else []
        trees = {name: proc.tree_of(process, everything) for name, process in living}
        for _, process in living:
            proc.signal_process(process, signal.SIGTERM)
        grace = max((record.grace for name, _ in living if (record := self._record(name))), default=0.0)
        _wait_gone([process for _, process in living], grace)
        _kill([process for tree in trees.values() for process in tree])
        for name in names:
            self._pid_file(name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Kill what carries this cluster's mark and has lost its parent."""
        own = os.getpid()
        _kill([process for process in proc.with_environment(OWNER_VARIABLE, self._owner) if process.pid != own])

    def _spawn(self, spec: ProcessSpec) -> proc.Process:
        log = self.log(spec.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        environment = {**os.environ, **spec.environment, OWNER_VARIABLE: self._owner}
        try:
            pid = os.posix_spawn(
                spec.command[0],
                spec.command,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise StageFailed(spec.name, f"cannot run {spec.command[0]}: {error.strerror}", log) from error
        process = proc.look_up_child(pid)
        if process is None:
            raise StageFailed(spec.name, "the process ended at once", log)
        return process

    def _remember_exit(self, name: str, code: int | None) -> None:
        if code is not None:
            self._exit_codes[name] = code

    def _ending(self, name: str) -> str:
        code = self._exit_codes.get(name)
        if code is None:
            return "has ended"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"has ended with exit code {code}"

    def _pid_file(self, name: str) -> Path:
        return self._run_dir / f"{name}.json"

    def _record(self, name: str) -> _PidFile | None:
        try:
            return _PidFile(**json.loads(self._pid_file(name).read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None


def _reap(pid: int) -> int | None:
    # A child that has ended stays a zombie until it is waited for; a process of another starter is none of ours.
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None


def _wait_gone(processes: list[proc.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(proc.is_running(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for process in processes:
        _reap(process.pid)


def _kill(processes: list[proc.Process]) -> None:
    for process in processes:
        proc.signal_process(process, signal.SIGKILL)
    _wait_gone(processes, _KILL_SECONDS)
