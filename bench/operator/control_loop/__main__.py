"""`python -m control_loop`: the operator's control loop against a real API server, and kopf's handlers beside it.

Prints JSON, and a table to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from control_loop.contestant import BASELINE, OURS
from control_loop.measure import Figures, measure
from control_loop.report import table


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    names = [OURS] if options.alone else [OURS, BASELINE]
    load = os.getloadavg()
    found: dict[str, Figures] = {}
    for name in names:
        print(f"{name}: {options.models} models", file=sys.stderr)
        found[name] = asyncio.run(
            measure(name, options.models, simulated=options.mode == "simulated", profile=options.profile)
        )
    document = {
        "mode": options.mode,
        "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "loadBefore": load},
        "contestants": {name: figures.to_document() for name, figures in found.items()},
    }
    print(json.dumps(document, indent=1))
    print(table(found), file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="control_loop", description=__doc__)
    parser.add_argument("--models", type=int, default=1000, help="models that are created at once (1000)")
    parser.add_argument("--mode", choices=("simulated", "real"), default="simulated")
    parser.add_argument("--alone", action="store_true", help="without the handlers in kopf's own style")
    parser.add_argument("--profile", type=Path, help="run the operator under cProfile, and leave the profile here")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
