"""`python -m serving`: measures, prints ratios, and leaves JSON and a chart. Targets that are missed are no failure."""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from types import FrameType

from neuron_localcluster.errors import ClusterError
from neuron_runtime.contract.outcome import ContainerFailure
from serving.chart import svg
from serving.figures import summarize
from serving.pictured import groups
from serving.report import document, table
from serving.run import LengthsDiffer, Peers, machine, run
from serving.servers import ServerFailed
from serving.settings import SIZES
from serving.workers import ContestantFailed

_FAILURES = (ClusterError, ContainerFailure, ContestantFailed, LengthsDiffer, ServerFailed, ValueError)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    settings, before, started = SIZES[options.model], machine(), monotonic()
    if options.rounds:
        settings = replace(settings, rounds=options.rounds)

    def tell(what: str) -> None:
        print(f"{monotonic() - started:6.0f} s  {what}", file=sys.stderr, flush=True)

    try:
        with tempfile.TemporaryDirectory(prefix="neuron-operator-bench-") as folder:
            measured = run(settings, Peers(options.llama_cpp, options.vllm), Path(folder), tell)
    except _FAILURES as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    figures = summarize(measured)
    print(table(figures))
    options.out.mkdir(parents=True, exist_ok=True)
    result = options.out / f"serving-{settings.model}.json"
    result.write_text(json.dumps(document(measured, figures, before), indent=1) + "\n", encoding="utf-8")
    picture = result.with_suffix(".svg")
    picture.write_text(svg(f"Serving {settings.model}, one engine thread", groups(measured)), encoding="utf-8")
    print(f"\n{result}\n{picture}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serving", description=__doc__)
    parser.add_argument("--model", choices=sorted(SIZES), default="smollm2", help="default: %(default)s")
    parser.add_argument(
        "--rounds", type=int, choices=range(1, 51), metavar="N", help="instead of as many as the model's figures need"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--llama-cpp",
        default=_own_interpreter("llama_cpp"),
        metavar="PYTHON",
        help="an interpreter that has llama-cpp-python (default: this one, if it has it)",
    )
    parser.add_argument(
        "--vllm",
        default=_own_interpreter("vllm"),
        metavar="PYTHON",
        help="an interpreter that has vLLM for CPUs (default: this one, if it has it)",
    )
    return parser


def _own_interpreter(module: str) -> str | None:
    return sys.executable if importlib.util.find_spec(module) else None


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
