"""An engine that compiles when it is told to: tests of the compile container decide how its compilation ends."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

from neuron_runtime.contract.artifact import Graph
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import CompileRequest
from neuron_runtime.engines.base import Compiled, CompileProgress, Config, Report

ENDING = "ending"
"""A file in the working folder. Its content is how the compilation ends: `done`, a failure code, `crash`, or
`disk full`. `large` is done with a graph of 40 MB."""
UNSUPPORTED = "unheard-of"
"""A `model_type` that it refuses."""
GRAPH = Graph(name="decode-1", kind="decode", batch_size=1, tokens=1, context_length=64, path="decode-1.txt")
PROGRESS = CompileProgress(done=30, total=100, eta_seconds=7.0, detail=GRAPH.name)

_DEADLINE_SECONDS = 60.0


class ScriptedCompiler:
    """Copies the source's configuration as its only graph."""

    def __init__(self, _kind: Any = None) -> None:
        pass

    def describe(self, request: CompileRequest, config: Config) -> tuple[Graph, ...]:
        if config.get("model_type") == UNSUPPORTED:
            raise ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"model_type {UNSUPPORTED}")
        return (GRAPH,)

    def compile(
        self, request: CompileRequest, source: Path, output: Path, *, threads: int, workers: int, report: Report
    ) -> Compiled:
        report(PROGRESS)
        ending = _wait(output.parent / ENDING)
        if ending == "crash":
            raise ZeroDivisionError("nobody foresaw this")
        if ending == "disk full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if ending not in ("done", "large"):
            raise ContainerFailure(FailureCode(ending), f"as told: {threads} threads, {workers} workers")
        output.mkdir()
        graph = (source / "config.json").read_bytes() if ending == "done" else bytes(40_000_000)
        (output / GRAPH.path).write_bytes(graph)
        return Compiled(graphs=(GRAPH,), tools={"script": "1"}, timings={GRAPH.name: 1.5})


def _wait(file: Path) -> str:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if file.exists():
            return file.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{file} was not written")
