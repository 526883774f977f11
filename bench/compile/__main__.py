"""`python -m compile`: processor seconds of each stage of compiling a model for the CPU engine. Prints JSON.

Compiles as a compile Job does. Inductor's options can be tried: --option aot_inductor.precompile_headers=true
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import neuron_runtime.engines.cpu
from compile.times import COMPILER_VARIABLE, OPTIONS_VARIABLE, TIMES_VARIABLE, Time, children_seconds, noted
from neuron_localcluster.standins.models import ensure_smollm2
from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target
from neuron_runtime.engines import open_engine

_SHAPES = Shapes(max_model_length=256, max_batch_size=4, context_lengths=(64,), token_generation_batches=(1, 4))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="neuron-operator-bench-") as name:
        folder = Path(name)
        source = folder / "source"
        if options.model == "tiny":
            source.mkdir()
            tiny_llama(source)
        else:
            source = ensure_smollm2()
        _stand_before_the_compiler(folder)
        os.environ[OPTIONS_VARIABLE] = json.dumps(dict(_option(text) for text in options.option))
        begun = perf_counter()
        _compile(source, folder / "artifact", options.workers)
        document = _document(options, noted(Path(os.environ[TIMES_VARIABLE])), folder)
        document["seconds"] = {"wall": round(perf_counter() - begun, 1), "processor": round(children_seconds(), 1)}
    print(json.dumps(document, indent=1))
    return 0


def _stand_before_the_compiler(folder: Path) -> None:
    """Inductor asks the compiler's name what it is, so the one that stands before it has the same."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise SystemExit("no C++ compiler")
    instead = folder / "bin" / Path(compiler).name
    instead.parent.mkdir()
    script = Path(__file__).with_name("compiler.py")
    instead.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{script}" "$@"\n', encoding="utf-8")
    instead.chmod(0o755)
    os.environ.update({"CXX": str(instead), COMPILER_VARIABLE: compiler, TIMES_VARIABLE: str(folder / "times")})


def _compile(source: Path, output: Path, workers: int) -> None:
    engine = open_engine(Engine.CPU)
    request = CompileRequest(
        engine=Engine.CPU,
        toolchain={**engine.toolchain(), "march": "x86-64-v3"},
        source_digest=f"sha256:{'0' * 64}",
        shapes=_SHAPES,
        dtype=DType.FLOAT32,
        target=Target.CPU,
    )
    neuron_runtime.engines.cpu._COMPILER = "compile.worker"
    engine.compile(request, source, output, threads=1, workers=workers, report=lambda _progress: None)


def _document(options: argparse.Namespace, times: Sequence[Time], folder: Path) -> dict[str, Any]:
    jobs: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for time in times:
        jobs[time.job or "before all"][time.stage] += time.processor
    return {
        "model": options.model,
        "workers": options.workers,
        "options": options.option,
        "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()},
        "processorSeconds": {
            job: {stage: round(seconds, 2) for stage, seconds in stages.items()} for job, stages in jobs.items()
        },
        "bytes": {file.name: file.stat().st_size for file in sorted((folder / "artifact").glob("*.so"))},
        "generatedBytes": _generated(folder / "compile" / "cache"),
        "mostMemoryOfOneProcessMiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def _generated(cache: Path) -> dict[str, list[int]]:
    """Sizes of the C++ that Inductor wrote, one of each graph."""
    kinds = ("wrapper", "kernel")
    return {kind: sorted(path.stat().st_size for path in cache.rglob(f"*.{kind}.cpp")) for kind in kinds}


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compile", description=__doc__)
    parser.add_argument("--model", choices=("tiny", "smollm2"), default="smollm2", help="what is compiled (smollm2)")
    parser.add_argument("--workers", type=int, default=2, help="graphs at the same time (2)")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of Inductor")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
