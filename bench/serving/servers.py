"""Servers as processes: the S3 stand-in, ours, and others that speak the same API."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from neuron_localcluster.standins import aws
from neuron_runtime.contract.launch import (
    BIND_ADDRESS_VARIABLE,
    SERVING_SPEC_VARIABLE,
    WORK_DIR_VARIABLE,
    ServingSpec,
)
from neuron_runtime.contract.source import SourceManifest
from neuron_runtime.contract.store import StoreLocation
from neuron_runtime.store import describe_files, open_store
from serving.compiled import CompiledModel
from serving.workers import ONE_THREAD, environment

SERVED_NAME = "bench"
GRAPH_SECONDS = "neuron_serving_graph_seconds"
"""The server's counter of the time that its engine worked."""

_BUCKET = "bench"
_START = "import sys; from neuron_runtime.serve import main; main(port=int(sys.argv[1]))"
_POLL_SECONDS = 0.005
_END_SECONDS = 10.0


class ServerFailed(Exception):
    """A server ended, or did not become ready."""


@dataclass(frozen=True)
class Launch:
    """How a server is started."""

    name: str
    command: Sequence[str]
    """`{port}` stands for the port to listen on."""
    environment: Mapping[str, str]
    ready_path: str
    ready_seconds: float
    """Most that the start may take."""


@dataclass(frozen=True)
class Server:
    """One that is ready."""

    name: str
    port: int
    pid: int
    start_seconds: float
    """From exec to the first answer that says that it is ready."""

    def memory_bytes(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text("utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return 1024 * int(line.split()[1])
        raise ServerFailed(f"{self.name} has ended")

    def graph_seconds(self) -> float | None:
        """For how long its graphs have run since it started; None for a server that does not say so."""
        status, body = _get(self.port, "/metrics")
        return graph_seconds(body) if status == http.HTTPStatus.OK else None


def graph_seconds(exposition: str) -> float | None:
    """The sum over all graphs in Prometheus' text format; None where there is none."""
    samples = [
        sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name in (f"{GRAPH_SECONDS}_total", f"{GRAPH_SECONDS}_sum")
    ]
    return sum(samples) if samples else None


@contextmanager
def started_server(launch: Launch, logs: Path, port: int | None = None) -> Iterator[Server]:
    """Start one, and wait until it is ready. Raises ServerFailed with the end of its log."""
    port = port or free_port()
    command = [part.replace("{port}", str(port)) for part in launch.command]
    log = logs / f"{launch.name}.log"
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env={**environment(), **launch.environment}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        seconds = _wait_until_ready(launch, process, port, started, log)
        yield Server(launch.name, port, process.pid, seconds)
    finally:
        process.kill()
        process.wait(_END_SECONDS)


@contextmanager
def own_server(model: CompiledModel, folder: Path) -> Iterator[Launch]:
    """A store that holds the model, and how our server is started from it; its work folder outlives single starts."""
    port = free_port()
    objects = Launch("store", aws.command(), aws.environment(folder, port), "/_ministack/health", 60.0)
    store = {
        **aws.CREDENTIALS,
        "AWS_REGION": aws.REGION,
        "AWS_ENDPOINT_URL_S3": f"http://{aws.ADDRESS}:{port}",
        "NO_PROXY": aws.ADDRESS,
    }
    with started_server(objects, folder, port):
        aws.ensure_bucket(store["AWS_ENDPOINT_URL_S3"], _BUCKET)
        # The store's client takes them from nowhere else.
        os.environ |= store
        spec = _fill_store(model)
        yield Launch(
            "ours",
            (sys.executable, "-c", _START, "{port}"),
            {
                **store,
                SERVING_SPEC_VARIABLE: spec.to_json(),
                WORK_DIR_VARIABLE: str(folder / "work"),
                BIND_ADDRESS_VARIABLE: aws.ADDRESS,
            },
            "/readyz",
            120.0,
        )


def vllm_server(python: str, source: Path, slots: int, max_model_length: int) -> Launch:
    """vLLM's server on one CPU thread, eager and in float32, as its CPU builds run.

    Every round asks the same questions: what it remembers of their prompts would be no prefill.
    """
    options = {
        "--model": str(source),
        "--served-model-name": SERVED_NAME,
        "--host": aws.ADDRESS,
        "--port": "{port}",
        "--dtype": "float32",
        "--max-model-len": str(max_model_length),
        "--max-num-seqs": str(slots),
    }
    flat = [part for option in options.items() for part in option]
    return Launch(
        "vllm",
        (python, "-m", "vllm.entrypoints.openai.api_server", *flat, "--enforce-eager", "--no-enable-prefix-caching"),
        {**ONE_THREAD, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"},
        "/health",
        240.0,
    )


def _fill_store(model: CompiledModel) -> ServingSpec:
    """Put what a compile Job leaves into the store; what a pod is told that serves it."""
    manifest = model.manifest
    location = StoreLocation(bucket=_BUCKET, domain="ns/bench")
    source = SourceManifest(
        digest=manifest.request.source_digest, repo="bench/model", commit="0" * 40, files=describe_files(model.source)
    )
    store = open_store(location)
    store.put_source(source, model.source, lambda _done, _total: None)
    store.put_artifact(manifest, model.artifact, lambda _done, _total: None)
    store.close()
    return ServingSpec(
        artifact_digest=manifest.digest,
        source_digest=source.digest,
        engine=manifest.request.engine,
        store=location,
        served_name=SERVED_NAME,
        threads=1,
    )


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server((aws.ADDRESS, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(launch: Launch, process: subprocess.Popen[bytes], port: int, started: float, log: Path) -> float:
    """Seconds from the start to ready."""
    while (seconds := time.perf_counter() - started) < launch.ready_seconds:
        if process.poll() is not None:
            raise ServerFailed(f"{launch.name} ended with {process.returncode}:\n{_tail(log)}")
        try:
            status, _ = _get(port, launch.ready_path)
        except OSError:
            status = None
        if status == http.HTTPStatus.OK:
            return time.perf_counter() - started
        time.sleep(_POLL_SECONDS)
    raise ServerFailed(f"{launch.name} is not ready after {seconds:.0f} s:\n{_tail(log)}")


def _get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(aws.ADDRESS, port, timeout=10.0)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
