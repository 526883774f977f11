"""The command line: up, down, status, logs. Exit codes: 0 done, 1 it failed or does not run, 2 wrong usage."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.cluster import COMPONENTS, Cluster
from neuron_localcluster.errors import ClusterError, tail
from neuron_localcluster.progress import LinePrinter
from neuron_localcluster.record import Image

_DEFAULT_STATE = Path(".demo/cluster")


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ClusterError as error:
        _say(f"error: {error}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="neuron_localcluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the cluster, or what of it does not run")
    up.add_argument("--images", type=Path, metavar="FILE", help="image table (JSON: reference -> {path, env})")
    up.add_argument("--hub-root", type=Path, metavar="DIR", help="folder that the hub stand-in serves")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="end all processes of the cluster")
    down.add_argument("--purge", action="store_true", help="delete its data too")
    down.set_defaults(run=_down)

    status = commands.add_parser("status", help="list the processes; exit code 1 when one does not run")
    status.set_defaults(run=_status)

    logs = commands.add_parser("logs", help="show the end of a component's log, or name all log files")
    logs.add_argument("component", nargs="?", choices=COMPONENTS)
    logs.add_argument("--lines", type=int, default=50, help="how many lines (default: %(default)s)")
    logs.set_defaults(run=_logs)

    for command in (up, down, status, logs):
        command.add_argument(
            "--state-dir", type=Path, default=_DEFAULT_STATE, metavar="DIR", help="its folder (default: %(default)s)"
        )
    return parser


def _up(options: argparse.Namespace) -> int:
    cluster = Cluster(options.state_dir, images=_read_images(options.images), hub_root=options.hub_root)
    cluster.up(LinePrinter(sys.stdout))
    kubeconfig, clients = shlex.quote(str(cluster.kubeconfig)), shlex.quote(str(ensure_binaries().clients))
    _say(f"export KUBECONFIG={kubeconfig} PATH={clients}:$PATH")
    return 0


def _down(options: argparse.Namespace) -> int:
    Cluster(options.state_dir).down(purge=options.purge, progress=LinePrinter(sys.stdout))
    return 0


def _status(options: argparse.Namespace) -> int:
    components = Cluster(options.state_dir).status()
    for component in components:
        state = f"running (pid {component.pid})" if component.pid else "not running"
        _say(f"{component.name:<24} {state:<22} {component.address}")
    return 0 if all(component.pid for component in components) else 1


def _logs(options: argparse.Namespace) -> int:
    cluster = Cluster(options.state_dir)
    if options.component is None:
        for name in COMPONENTS:
            _say(f"{name:<24} {cluster.log(name)}")
        return 0
    log = cluster.log(options.component)
    if not log.exists():
        raise ClusterError(f"{options.component} has no log in {options.state_dir}; has it been started?")
    for line in tail(log, options.lines):
        _say(line)
    return 0


def _read_images(path: Path | None) -> dict[str, Image] | None:
    if path is None:
        return None
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ClusterError(f"--images {path}: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(image, dict) and "path" in image for image in table.values()):
        raise ClusterError(f"--images {path}: expected a JSON object, reference -> {{path, env}}")
    return table


def _say(line: str, stream: TextIO | None = None) -> None:
    out = stream or sys.stdout
    out.write(line + "\n")
    out.flush()
