"""`python -m startup`: servers of one model with its artifact on the disk: seconds until each is ready, and memory.

Their artifacts are hard links to the same files, as a cache of a node gives them: mapped weights then lie in memory
once. PSS, which is added up, counts a page that several processes map in equal parts. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuron_runtime.contract.launch import WORK_DIR_VARIABLE
from serving.compiled import CompiledModel, compiled, source_folder
from serving.servers import Launch, Server, own_server, started_server
from serving.settings import SIZES

_COUNTED = ("Rss", "Pss", "Pss_Anon", "Pss_File")
_MIB = 2**20


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="neuron-operator-bench-", dir=options.folder) as name:
        folder = Path(name)
        settings = SIZES[options.model]
        source = source_folder(settings.model, folder / "source")
        model = compiled(settings, source, lambda told: print(told, file=sys.stderr))
        document = _measure(model, folder, options.servers)
    print(json.dumps(document, indent=1))
    return 0


def _measure(model: CompiledModel, folder: Path, count: int) -> dict[str, Any]:
    load = os.getloadavg()
    with own_server(model, folder) as launch, ExitStack() as stack:
        launches = [_with_artifact(launch, model, folder / f"server-{number}") for number in range(count)]
        servers = [stack.enter_context(started_server(launch, folder)) for launch in launches]
        memory = [_memory(server) for server in servers]
        processor = [_processor_seconds(server) for server in servers]
    seconds = [server.start_seconds for server in servers]
    return {
        "graphs": len(model.manifest.graphs),
        "weightsMiB": round(max(file.size for file in model.manifest.files) / _MIB),
        "servers": count,
        "load": load,
        "secondsUntilReady": _spread(seconds),
        "processorSecondsOfOne": _spread(processor),
        "mibOfOne": {name: round(statistics.median(found[name] for found in memory)) for name in _COUNTED},
        "mibOfAll": {name: sum(found[name] for found in memory) for name in _COUNTED if name != "Rss"},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: round(value, 2) for name, value in found.items()}


def _with_artifact(launch: Launch, model: CompiledModel, folder: Path) -> Launch:
    """The server's start with a work folder where an earlier process has left the artifact."""
    work = folder / "work"
    shutil.copytree(model.artifact, work / "artifact", copy_function=os.link)
    shutil.copytree(model.source, work / "source", copy_function=os.link)
    return replace(launch, name=folder.name, environment={**launch.environment, WORK_DIR_VARIABLE: str(work)})


def _memory(server: Server) -> dict[str, int]:
    """MiB of a process."""
    lines = Path(f"/proc/{server.pid}/smaps_rollup").read_text("utf-8").splitlines()[1:]
    found = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return {name: found[name] // 1024 for name in _COUNTED}


def _processor_seconds(server: Server) -> float:
    """What a process has used of processors since it was started; it has answered nothing but probes."""
    fields = Path(f"/proc/{server.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="startup", description=__doc__)
    parser.add_argument("--model", choices=sorted(SIZES), default="smollm2", help="default: %(default)s")
    parser.add_argument("--servers", type=int, default=20, help="how many (20)")
    parser.add_argument("--folder", type=Path, help="on the file system where artifacts are kept between runs")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
