"""Starts contestants and asks them: the other end of `worker`."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.contestants import Generated

PACKAGES = Path(__file__).parents[1]
"""What must be on the path of every process of the benchmark."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Variables by which libraries compute on one thread."""

_LOAD_SECONDS = 300.0
_ANSWER_SECONDS = 300.0
_END_SECONDS = 10.0


class ContestantFailed(Exception):
    """A contestant's process ended, or took too long."""


class Worker:
    """One contestant's process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log
        self._pending = b""
        self.versions: Mapping[str, str] = self._read(_LOAD_SECONDS)["versions"]

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        """Raises ContestantFailed."""
        assert self._process.stdin is not None
        question = json.dumps({"prompts": [list(prompt) for prompt in prompts], "tokens": tokens})
        try:
            self._process.stdin.write(question.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failed("ended") from error
        return Generated.parse(self._read(_ANSWER_SECONDS))

    def _read(self, seconds: float) -> Any:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._pending:
            readable, _, _ = select.select([descriptor], [], [], seconds)
            if not readable:
                raise self._failed(f"has not answered for {seconds:.0f} s")
            received = os.read(descriptor, 1 << 20)
            if not received:
                raise self._failed("ended")
            self._pending += received
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def _failed(self, how: str) -> ContestantFailed:
        tail = "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-15:])
        return ContestantFailed(f"{self.name} {how}:\n{tail}")


@contextmanager
def started_worker(
    name: str, arguments: Mapping[str, Path | int], logs: Path, python: str = sys.executable
) -> Iterator[Worker]:
    """Start a contestant in its own interpreter, which must have its library. Raises ContestantFailed."""
    log = logs / f"{name}.log"
    command = [python, "-m", "serving.worker", name, json.dumps(arguments, default=str)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, env={**environment(), **ONE_THREAD}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )
    with process:
        try:
            yield Worker(name, process, log)
        finally:
            process.kill()


def read_bandwidth() -> float:
    """Bytes per second that one thread reads now: the median of several passes."""
    result = subprocess.run(
        [sys.executable, "-m", "serving.bandwidth"],
        env={**environment(), **ONE_THREAD},
        capture_output=True,
        text=True,
        check=True,
        timeout=_ANSWER_SECONDS,
    )
    # The first pass warms up.
    return statistics.median(map(float, result.stdout.split()[1:]))


def environment() -> dict[str, str]:
    """What every process of the benchmark is started with: it finds the benchmark's modules, and asks no hub."""
    path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
