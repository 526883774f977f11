"""A compiled model served by the serving container's own process, from a store, and what is seen of it from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.source import SourceManifest
from neuron_runtime.contract.store import StoreLocation
from neuron_runtime.store import describe_files, open_store
from support.addresses import free_port
from support.object_store import CREDENTIALS, end, object_store
from support.waiting import wait_for

NAME = "tiny"
_BUCKET = "artifacts"
_WAIT = 120.0
# It also writes down how many tasks its event loop has, whenever it is asked to with a signal.
_START = """
import asyncio, os, signal, sys
from pathlib import Path
from neuron_runtime.serve import main

def tell(*_):
    tasks = asyncio.all_tasks(asyncio.get_running_loop())
    Path(sys.argv[2] + ".new").write_text(str(len(tasks)))
    os.replace(sys.argv[2] + ".new", sys.argv[2])

signal.signal(signal.SIGUSR1, tell)
main(port=int(sys.argv[1]))
"""


@dataclass(frozen=True)
class ServingProcess:
    """One that is ready."""

    url: str
    process: psutil.Process
    told: Path

    @property
    def client(self) -> openai.OpenAI:
        """OpenAI's client of it."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, http_client=self.connections())

    @staticmethod
    def connections() -> httpx.Client:
        """Connections that end with their request: what is left at the server is then its own."""
        return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=_WAIT)

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics", timeout=_WAIT).text)
        return next(sample.value for family in families for sample in family.samples if sample.name == name)

    def tasks(self) -> int:
        """Tasks of its event loop now."""
        self.told.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        look = lambda: int(self.told.read_text()) if self.told.exists() else None  # noqa: E731
        return wait_for("the number of tasks", look, seconds=_WAIT)


@contextmanager
def serving_process(folder: Path, manifest: ArtifactManifest, artifact: Path, source: Path) -> Iterator[ServingProcess]:
    """Put a compiled model into a store, and serve it from there."""
    objects, work = folder / "objects", folder / "work"
    objects.mkdir()
    with object_store(objects, _BUCKET) as endpoint:
        location = StoreLocation(bucket=_BUCKET, domain="shared")
        _put(location, endpoint, manifest, artifact, source)
        spec = ServingSpec(
            artifact_digest=manifest.digest,
            source_digest=manifest.request.source_digest,
            engine=manifest.request.engine,
            store=location,
            served_name=NAME,
        )
        environment = {
            **os.environ,
            **CREDENTIALS,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "NEURON_SERVING_SPEC": spec.to_json(),
            "NEURON_WORK_DIR": str(work),
            "TERMINATION_MESSAGE_PATH": str(folder / "termination-log"),
            "BIND_ADDRESS": "127.0.0.1",
        }
        port, told, log = free_port(), folder / "tasks", folder / "server.log"
        with log.open("wb") as output:
            command = [sys.executable, "-c", _START, str(port), str(told)]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for("ready", lambda: _ready(process, url), seconds=_WAIT, describe=log.read_text)
            yield ServingProcess(url, psutil.Process(process.pid), told)
        finally:
            end(process)


def _put(location: StoreLocation, endpoint: str, manifest: ArtifactManifest, artifact: Path, source: Path) -> None:
    snapshot = SourceManifest(
        digest=manifest.request.source_digest, repo="tests/tiny", commit="c" * 40, files=describe_files(source)
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint}.items():
            patch.setenv(name, value)
        store = open_store(location)
        assert store.put_source(snapshot, source, lambda _done, _total: None)
        assert store.put_artifact(manifest, artifact, lambda _done, _total: None)
        store.close()


def _ready(process: subprocess.Popen[bytes], url: str) -> bool | None:
    assert process.poll() is None, f"the server ended with {process.returncode}"
    try:
        return httpx.get(f"{url}/readyz", timeout=_WAIT).status_code == 200 or None
    except httpx.TransportError:
        return None
