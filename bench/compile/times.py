"""Times that the processes of a compilation write down, each as it comes to them."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import asdict, dataclass
from pathlib import Path

TIMES_VARIABLE = "BENCH_COMPILE_TIMES"
"""The file that times are added to."""
JOB_VARIABLE = "BENCH_COMPILE_JOB"
"""What is being compiled."""
COMPILER_VARIABLE = "BENCH_COMPILE_CXX"
"""The real C++ compiler."""
OPTIONS_VARIABLE = "BENCH_COMPILE_OPTIONS"
"""Inductor's options that are tried, as JSON."""


@dataclass(frozen=True)
class Time:
    """One stage of a job, once."""

    stage: str
    processor: float
    """Seconds."""
    wall: float
    """Seconds; on a busy machine they say little."""
    job: str = ""


def note(time: Time) -> None:
    """Write down a time of this process's job."""
    line = json.dumps(asdict(time) | {"job": os.environ.get(JOB_VARIABLE, "")}) + "\n"
    with Path(os.environ[TIMES_VARIABLE]).open("a", encoding="utf-8") as file:
        file.write(line)


def noted(path: Path) -> list[Time]:
    """All that was written down."""
    return [Time(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def children_seconds() -> float:
    """Processor seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
