"""What the job runner makes of the end of a compile process, on processes that end as they are told."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.engines.base import CompileProgress
from neuron_runtime.engines.cpu_jobs import STEPS_PER_JOB, Job, JobRunner
from support.waiting import wait_for

_TESTS = Path(__file__).parents[2]
_KILLED = int(signal.SIGKILL)
_OURS = json.dumps({"code": "UnsupportedModel", "message": "its weights do not fit"})


def _run(folder: Path, *jobs: dict[str, Any], workers: int = 2) -> tuple[dict[str, float], list[CompileProgress]]:
    reported: list[CompileProgress] = []
    scripted = [Job(f"job-{number}", json.dumps(job), expected_seconds=1.0) for number, job in enumerate(jobs)]
    environment = {**os.environ, "PYTHONPATH": str(_TESTS)}
    seconds = JobRunner("support.scripted_job").run(scripted, workers, environment, folder, reported.append)
    return seconds, reported


def test_every_job_runs_and_is_timed(tmp_path: Path) -> None:
    jobs = [{"touch": str(tmp_path / f"ran-{number}")} for number in range(3)]
    seconds, reported = _run(tmp_path, *jobs)
    assert set(seconds) == {"job-0", "job-1", "job-2"}
    assert all(Path(job["touch"]).exists() for job in jobs)
    assert reported[0].detail == "job-0, job-1"
    assert {progress.total for progress in reported} == {3 * STEPS_PER_JOB}


@pytest.mark.parametrize(
    ("job", "code", "named"),
    [
        ({"stdout": _OURS, "exit": 1}, FailureCode.UNSUPPORTED_MODEL, "its weights do not fit"),
        ({"stderr": "error: no such header", "exit": 1}, FailureCode.COMPILER_FAILED, "error: no such header"),
        ({"stdout": "a note", "stderr": "the reason", "exit": 1}, FailureCode.COMPILER_FAILED, "the reason"),
        ({"stdout": '{"code": "Unheard"}', "stderr": "why", "exit": 1}, FailureCode.COMPILER_FAILED, "why"),
        ({"signal": int(signal.SIGSEGV)}, FailureCode.COMPILER_FAILED, "exit code -11"),
        ({"signal": _KILLED}, FailureCode.OUT_OF_MEMORY, "spec.compile.resources.limits.memory"),
        ({"stdout": _OURS[:10], "signal": _KILLED}, FailureCode.OUT_OF_MEMORY, "job-0"),
        (
            {"stderr": "g++: fatal error: Killed signal terminated program cc1plus", "exit": 1},
            FailureCode.OUT_OF_MEMORY,
            "job-0",
        ),
    ],
)
def test_the_end_of_a_job_has_a_name(tmp_path: Path, job: dict[str, Any], code: FailureCode, named: str) -> None:
    with pytest.raises(ContainerFailure, match=named) as caught:
        _run(tmp_path, job)
    assert caught.value.code is code


def test_only_the_end_of_a_long_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContainerFailure, match=r"the reason$") as caught:
        _run(tmp_path, {"stderr": "x" * 100_000 + "the reason", "exit": 1})
    assert len(caught.value.message) < 2000


def test_the_first_failure_ends_the_others_and_starts_no_more(tmp_path: Path) -> None:
    never = tmp_path / "never"
    # The run's cluster may be among the children of the process that runs the tests.
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(ContainerFailure, match="job-1"):
        _run(tmp_path, {"wait": True}, {"exit": 3}, {"touch": str(never)})
    assert {child.pid for child in psutil.Process().children()} <= before
    assert not never.exists()


@pytest.mark.parametrize("end", [{"signal": _KILLED}, {"exit": 1}])
def test_a_job_that_ends_takes_what_it_started_with_it(tmp_path: Path, end: dict[str, Any]) -> None:
    started = tmp_path / "started"
    with pytest.raises(ContainerFailure):
        _run(tmp_path, {"child": str(started), **end})
    compiler = int(started.read_text())
    wait_for("the end of the job's child", lambda: None if _runs(compiler) else True, seconds=10)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
