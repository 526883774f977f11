"""`python -m store`: a verified pull from a store against boto3's transfer manager. Run by hand; prints JSON.

All contestants take turns in each round, and ratios are made within a round: what else the machine does hits them
alike. Processor seconds tell what a pull costs even where the machine is busy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

from neuron_localcluster.standins import aws
from neuron_runtime.contract.source import StoredFile
from neuron_runtime.store import describe_files
from store.contestants import BOTO3, BUCKET, KEY, RUNTIME, Pull, contestants

_MIB = 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="neuron-operator-bench-", dir=options.folder) as name:
        folder = Path(name)
        source = folder / "objects" / BUCKET
        source.mkdir(parents=True)
        with (source / KEY).open("wb") as file:
            for _ in range(options.size):
                file.write(secrets.token_bytes(_MIB))
        (described,) = describe_files(source)
        objects = folder / "objects"
        with _stand_in(objects) if options.stand_in else _bare_server(objects, options.pace) as endpoint:
            client = aws.s3_client(endpoint)
            pulls = contestants(client, described)
            measured = [_round(pulls, described, folder / "pulled") for _ in range(options.rounds)]
            client.close()
    print(json.dumps(_document(options, measured), indent=1))
    return 0


def _round(pulls: dict[str, Pull], file: StoredFile, folder: Path) -> dict[str, tuple[float, float]]:
    """MB/s and processor seconds of each."""
    found = {}
    for name, pull in pulls.items():
        folder.mkdir()
        used, started = process_time(), perf_counter()
        pull(folder)
        found[name] = (file.size / 1e6 / (perf_counter() - started), process_time() - used)
        shutil.rmtree(folder)
    return found


def _document(options: argparse.Namespace, rounds: list[dict[str, tuple[float, float]]]) -> dict[str, Any]:
    names = list(rounds[0])
    return {
        "object": f"{options.size} MiB",
        "server": "S3 stand-in" if options.stand_in else "bare HTTP server, sendfile",
        "megabytesPerSecondOfOneConnection": options.pace or None,
        "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()},
        "rounds": len(rounds),
        "megabytesPerSecond": {name: _spread([found[name][0] for found in rounds]) for name in names},
        "processorSeconds": {name: _spread([found[name][1] for found in rounds]) for name in names},
        "ratioOfThroughput": {
            f"{RUNTIME} / {name}": _spread([found[RUNTIME][0] / found[name][0] for found in rounds])
            for name in names
            if name.startswith(BOTO3)
        },
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: round(value, 3) for name, value in found.items()}


@contextmanager
def _bare_server(root: Path, pace: float) -> Iterator[str]:
    command = [sys.executable, "-m", "store.ranged_server", str(root), str(pace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@contextmanager
def _stand_in(root: Path) -> Iterator[str]:
    with socket.create_server((aws.ADDRESS, 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, **aws.environment(root, port)}
    with subprocess.Popen(aws.command(), env=environment, cwd=root, stdout=subprocess.DEVNULL) as process:
        try:
            while not aws.is_ready(port):
                assert process.poll() is None
                sleep(0.1)
            endpoint = f"http://{aws.ADDRESS}:{port}"
            aws.ensure_bucket(endpoint, BUCKET)
            aws.s3_client(endpoint).upload_file(str(root / BUCKET / KEY), BUCKET, KEY)
            yield endpoint
        finally:
            process.terminate()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="store", description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="MiB of the object (512)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (7)")
    parser.add_argument("--folder", type=Path, help="where objects and pulled files lie; the system's temporary folder")
    parser.add_argument("--pace", type=float, default=0.0, help="MB/s that a connection gets at most; S3: about 90")
    parser.add_argument("--stand-in", action="store_true", help="against the local cluster's S3 stand-in")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
