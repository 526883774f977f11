"""A compile job of the CPU engine, as `cpu_compile` runs it, with its stages timed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from io import StringIO
from time import perf_counter, process_time
from typing import Any

_BEGUN = perf_counter(), process_time()

from compile.times import JOB_VARIABLE, OPTIONS_VARIABLE, Time, note  # noqa: E402
from neuron_runtime.engines import cpu_compile  # noqa: E402 - its import is the first stage


def main() -> int:
    """Returns the job's exit code."""
    import torch._inductor

    text = sys.stdin.read()
    graph = json.loads(text)["graph"]
    os.environ[JOB_VARIABLE] = graph["name"] if graph else "weights"
    note(Time("import", process_time() - _BEGUN[1], perf_counter() - _BEGUN[0]))
    torch.export.export = _timed("export", torch.export.export)
    lower = torch._inductor.aoti_compile_and_package
    options = json.loads(os.environ[OPTIONS_VARIABLE])

    def lower_with_options(program: Any, *, package_path: str, inductor_configs: dict[str, Any]) -> Any:
        return lower(program, package_path=package_path, inductor_configs=inductor_configs | options)

    torch._inductor.aoti_compile_and_package = _timed("lowering", lower_with_options)
    sys.stdin = StringIO(text)
    begun = perf_counter(), process_time()
    code = cpu_compile.main()
    if graph is None:
        note(Time("weights", process_time() - begun[1], perf_counter() - begun[0]))
    return code


def _timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Processor seconds are this process's own: those of the compilers that it starts are noted by them."""

    def run(*arguments: Any, **options: Any) -> Any:
        begun = perf_counter(), process_time()
        result = function(*arguments, **options)
        note(Time(stage, process_time() - begun[1], perf_counter() - begun[0]))
        return result

    return run


if __name__ == "__main__":
    sys.exit(main())
