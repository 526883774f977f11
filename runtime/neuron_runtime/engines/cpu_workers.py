"""Runs the compilations of several graphs side by side, each in a process of its own, and says how far they are.

A process for each graph keeps the compiler's memory apart, so that one that is killed is known for what it is.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

from .base import CompileProgress

_STEPS = 100
"""Progress steps of one graph."""
_EXPORT_SHARE = 0.15
_TICK_SECONDS = 0.5
_MESSAGE_LIMIT = 2000
_OUT_OF_MEMORY_CODES = (-9, 137)


@dataclass
class _Worker:
    name: str
    process: "subprocess.Popen[str]"
    errors: Path
    expected_seconds: float
    started: float = field(default_factory=time.monotonic)
    generating_since: float | None = None
    finished: float | None = None

    def watch(self) -> None:
        """Note when the second stage begins."""
        assert self.process.stdout is not None  # noqa: S101 - opened with a pipe
        for line in self.process.stdout:
            if line.strip() == "generating":
                self.generating_since = time.monotonic()

    def fraction(self, now: float) -> float:
        """Share of the work that is done: known between the stages, estimated within them, never quite whole."""
        if self.finished is not None:
            return 1.0
        if self.generating_since is None:
            return _EXPORT_SHARE * _approach((now - self.started) / (_EXPORT_SHARE * self.expected_seconds))
        return _EXPORT_SHARE + (1 - _EXPORT_SHARE) * _approach((now - self.generating_since) / self.expected_seconds)


class Workers:
    """Compilations by name, at most `limit` at a time."""

    def __init__(self, folder: Path, *, limit: int, expected_seconds: float) -> None:
        self._folder = folder
        self._limit = limit
        self._expected = expected_seconds
        self._running: list[_Worker] = []
        self._finished: list[_Worker] = []

    def run(self, tasks: dict[str, dict[str, Any]], report: Callable[[CompileProgress], None]) -> dict[str, float]:
        """Run all tasks; returns the seconds that each took. Raises ContainerFailure for the first that fails."""
        waiting = dict(tasks)
        started = time.monotonic()
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._limit:
                    name = next(iter(waiting))
                    self._running.append(self._start(name, waiting.pop(name)))
                self._wait_a_moment()
                report(self._progress(len(tasks), started))
        finally:
            self.kill()
        return {worker.name: (worker.finished or 0.0) - worker.started for worker in self._finished}

    def kill(self) -> None:
        """End what still runs."""
        for worker in self._running:
            worker.process.kill()
            worker.process.wait()
        self._running.clear()

    def _start(self, name: str, task: dict[str, Any]) -> _Worker:
        task_file = self._folder / f"{name}.json"
        task_file.write_text(json.dumps(task))
        errors = self._folder / f"{name}.log"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(task["threads"]),
            # Next to the work and not in the home folder, which may be read-only.
            "TORCHINDUCTOR_CACHE_DIR": str(self._folder / "inductor"),
            "TMPDIR": str(self._folder),
        }
        command = [sys.executable, "-m", "neuron_runtime.engines.cpu_compile", str(task_file)]
        with errors.open("w") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
        worker = _Worker(name, process, errors, self._expected)
        Thread(target=worker.watch, daemon=True).start()
        return worker

    def _wait_a_moment(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._running[0].process.wait(_TICK_SECONDS)
        for worker in [worker for worker in self._running if worker.process.poll() is not None]:
            self._running.remove(worker)
            worker.finished = time.monotonic()
            if worker.process.returncode != 0:
                raise _failure(worker)
            self._finished.append(worker)

    def _progress(self, graphs: int, started: float) -> CompileProgress:
        now = time.monotonic()
        share = sum(worker.fraction(now) for worker in self._running + self._finished) / graphs
        elapsed = now - started
        # A share alone says little at the start; what is expected says something from the first second on.
        rounds = math.ceil(graphs / self._limit)
        expected = max(self._expected * (1 + _EXPORT_SHARE) * rounds - elapsed, 0.0)
        eta = (1 - share) * expected + elapsed * (1 - share) if share < 1 else 0.0
        names = ", ".join(sorted(worker.name for worker in self._running))
        return CompileProgress(int(share * graphs * _STEPS), graphs * _STEPS, eta, names)


def _approach(ratio: float) -> float:
    """From 0 towards 1: 0.8 at the expected time, and slower after it."""
    return 1 - math.exp(-1.6 * ratio)


def _failure(worker: _Worker) -> ContainerFailure:
    code = worker.process.returncode
    if code in _OUT_OF_MEMORY_CODES:
        return ContainerFailure(
            FailureCode.OUT_OF_MEMORY, f"the compilation of graph {worker.name} was killed, most likely for its memory"
        )
    tail = worker.errors.read_text(errors="replace").strip()[-_MESSAGE_LIMIT:]
    return ContainerFailure(FailureCode.COMPILER_FAILED, f"graph {worker.name} exited with code {code}: {tail}")
