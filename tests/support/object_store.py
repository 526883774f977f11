"""A real S3 API for tests: the AWS stand-in as a process of its own, empty, on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_localcluster.standins import aws
from support.addresses import free_port

CREDENTIALS = {**aws.CREDENTIALS, "AWS_REGION": aws.REGION}


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait until a process listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"{process.args!r} does not listen on {port} after {seconds} s")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, one way or the other."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def object_store(folder: Path, bucket: str) -> Iterator[str]:
    """Run the stand-in with one bucket in it; yields its endpoint."""
    port = free_port()
    environment = {**os.environ, **aws.environment(folder, port)}
    with (folder / "ministack.log").open("wb") as log:
        process = subprocess.Popen(aws.command(), env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_port(port, process)
            endpoint = f"http://127.0.0.1:{port}"
            aws.ensure_bucket(endpoint, bucket)
            yield endpoint
        finally:
            end(process)
