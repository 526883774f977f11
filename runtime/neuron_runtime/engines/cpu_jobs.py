"""Runs compile jobs as processes, some at a time, and tells how far they are. Knows no torch."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

from .base import CompileProgress, Report

STEPS_PER_JOB = 100
_TICK_SECONDS = 1.0
_TAIL_BYTES = 1500
# A job that takes longer than expected gets ever closer to its end without reaching it.
_STEPS_AT_EXPECTED_END = 90
_MEMORY_SIGNS = ("Killed signal terminated program", "Cannot allocate memory", "std::bad_alloc", "MemoryError")


@dataclass(frozen=True)
class Job:
    """One process: what it is called, what it reads, and how long it is likely to take."""

    name: str
    document: str
    expected_seconds: float


@dataclass
class _Running:
    job: Job
    process: "subprocess.Popen[bytes]"
    started: float
    log: Path


class JobRunner:
    """Runs jobs of one module. A process group for each: the compilers that a job calls end with it."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._running: list[_Running] = []

    def run(
        self, jobs: Sequence[Job], workers: int, environment: Mapping[str, str], logs: Path, report: Report
    ) -> dict[str, float]:
        """Run all, in this order, and return the seconds that each took. The first failure ends the others.

        Raises ContainerFailure: the job's own, OUT_OF_MEMORY or COMPILER_FAILED.
        """
        waiting, seconds, shown = list(jobs), dict[str, float](), 0
        try:
            while waiting or self._running:
                while waiting and len(self._running) < workers:
                    self._running.append(self._start(waiting.pop(0), environment, logs))
                progress = _progress(jobs, seconds, {item.job.name: _age(item) for item in self._running}, workers)
                # A corrected expectation may say less than the last one; a bar that goes back says nothing at all.
                shown = max(shown, progress.done)
                report(replace(progress, done=shown))
                self._wait()
                for item in [item for item in self._running if item.process.poll() is not None]:
                    _kill_group(item)
                    self._running.remove(item)
                    seconds[item.job.name] = _age(item)
                    _raise_for(item)
        finally:
            self._kill()
        return seconds

    def _kill(self) -> None:
        """Kill what runs, and wait until it is gone."""
        for item in self._running:
            _kill_group(item)
            item.process.wait()
        self._running.clear()

    def _start(self, job: Job, environment: Mapping[str, str], logs: Path) -> _Running:
        log = logs / f"{job.name}.log"
        with log.open("wb") as errors, (logs / f"{job.name}.out").open("wb") as answer:
            process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        stdin: IO[bytes] | None = process.stdin
        if stdin is not None:
            stdin.write(job.document.encode())
            stdin.close()
        return _Running(job, process, time.monotonic(), log)

    def _wait(self) -> None:
        """Until the oldest process has ended, or it is time to report."""
        try:
            self._running[0].process.wait(_TICK_SECONDS)
        except subprocess.TimeoutExpired:
            return


def _kill_group(item: _Running) -> None:
    """Kill the job and what it started: a process that dies by a signal leaves its compilers running."""
    with suppress(ProcessLookupError):
        os.killpg(item.process.pid, signal.SIGKILL)


def expected_share(age: float, expected: float) -> float:
    """The share of a job that is likely to be done, in [0, 1): linear at first, then ever slower."""
    at_end = _STEPS_AT_EXPECTED_END / STEPS_PER_JOB
    relative = age / expected
    return at_end * relative if relative <= 1 else 1 - (1 - at_end) * math.exp(1 - relative)


def _progress(
    jobs: Sequence[Job], seconds: Mapping[str, float], ages: Mapping[str, float], workers: int
) -> CompileProgress:
    """What finished jobs took, compared to what was expected, corrects what is expected of the others."""
    finished = [job for job in jobs if job.name in seconds and job.expected_seconds > 0]
    expected = sum(job.expected_seconds for job in finished)
    pace = sum(seconds[job.name] for job in finished) / expected if expected else 1.0
    total = done = remaining = 0.0
    for job in jobs:
        likely = max(job.expected_seconds * pace, _TICK_SECONDS)
        share = 1.0 if job.name in seconds else expected_share(ages.get(job.name, 0.0), likely)
        total += job.expected_seconds
        done += share * job.expected_seconds
        remaining += (1 - share) * likely
    steps = STEPS_PER_JOB * len(jobs)
    return CompileProgress(
        done=int(steps * done / total),
        total=steps,
        eta_seconds=round(remaining / max(1, min(workers, len(jobs) - len(seconds))), 1),
        detail=", ".join(ages),
    )


def _raise_for(item: _Running) -> None:
    code = item.process.returncode
    if code == 0:
        return
    told = _told(item.log.with_suffix(".out"))
    if told is not None:
        raise told
    tail = item.log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
    if code == -signal.SIGKILL or any(sign in tail for sign in _MEMORY_SIGNS):
        raise ContainerFailure(
            FailureCode.OUT_OF_MEMORY,
            f"compiling {item.job.name} was killed for the memory that it took; raise "
            "spec.compile.resources.limits.memory",
        )
    raise ContainerFailure(FailureCode.COMPILER_FAILED, f"compiling {item.job.name} failed (exit code {code}): {tail}")


def _told(answer: Path) -> ContainerFailure | None:
    """The failure that a job has told; None when it ended without, or a library of its wrote there as well."""
    try:
        failure = json.loads(answer.read_text("utf-8"))
        return ContainerFailure(FailureCode(failure["code"]), failure["message"])
    except (ValueError, TypeError, KeyError):
        return None


def _age(item: _Running) -> float:
    return round(time.monotonic() - item.started, 2)
