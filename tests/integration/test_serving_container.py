"""The serving container as a process, with a real store: it serves, or ends with the code and message of what is wrong.

The engine is a scripted one; all else is what runs in a pod.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from neuron_localcluster.standins import aws
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest, digest_of
from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.outcome import ExitCode, FailureCode, TerminationMessage
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target, Task
from neuron_runtime.contract.source import SourceManifest
from neuron_runtime.contract.store import StoreLocation
from neuron_runtime.store import describe_files, open_store
from support.addresses import free_port
from support.breaking_proxy import breaking_proxy
from support.object_store import CREDENTIALS, object_store
from support.scripted_encoder import vector_of
from support.scripted_engine import END, write_snapshot
from support.waiting import wait_for

_TESTS = Path(__file__).parents[1]
_START = """
import sys
from neuron_runtime.serve import main
from support.scripted_engine import ScriptedEngine
main(ScriptedEngine, port=int(sys.argv[1]))
"""
_SOURCE = digest_of("source")
_WAIT = 120.0
_WEIGHTS = 1_000_000


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("s3"), "artifacts") as endpoint:
        yield endpoint


@dataclass
class _Container:
    process: subprocess.Popen[str]
    url: str
    message_path: Path

    def wait_until_ready(self) -> None:
        said = "nothing"

        def look() -> bool | None:
            nonlocal said
            assert self.process.poll() is None, self.process.communicate()
            try:
                answer = httpx.get(f"{self.url}/readyz", timeout=_WAIT)
            except httpx.TransportError:
                return None
            said = answer.text
            return answer.status_code == 200 or None

        wait_for("ready", look, seconds=_WAIT, describe=lambda: said)

    def end(self) -> tuple[int, TerminationMessage | None]:
        code = self.process.wait(_WAIT)
        text = self.message_path.read_text() if self.message_path.exists() else ""
        return code, TerminationMessage.decode(text)


class _Platform:
    """A store with what a compile Job leaves in it, and containers that serve from it."""

    def __init__(self, endpoint: str, folder: Path, location: StoreLocation, task: Task) -> None:
        self.location = location
        self._folder = folder
        self._environment = {**os.environ, **CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint, "PYTHONPATH": str(_TESTS)}
        self.artifact = self._put(task)

    def _put(self, task: Task) -> ArtifactManifest:
        files = self._folder / "artifact"
        files.mkdir()
        (files / "script.txt").write_text(f"It works.{END}")
        (files / "weights").write_bytes(os.urandom(_WEIGHTS))
        source = self._folder / "source"
        write_snapshot(source)
        (source / "model.safetensors").write_bytes(b"weights, which no server needs")
        request = CompileRequest(
            engine=Engine.CPU,
            toolchain={"script": "1"},
            source_digest=_SOURCE,
            task=task,
            shapes=Shapes(max_model_length=64, max_batch_size=1, context_lengths=(8,), token_generation_batches=(1,)),
            dtype=DType.FLOAT32,
            target=Target.CPU,
        )
        manifest = ArtifactManifest(
            digest=request.digest,
            request=request,
            source_commit="c",
            graphs=(),
            files=describe_files(files),
            tools={},
            timings={},
            created_at="2026-01-02T03:04:05Z",
        )
        store = open_store(self.location)
        snapshot = SourceManifest(digest=_SOURCE, repo="a/b", commit="c", files=describe_files(source))
        assert store.put_source(snapshot, source, lambda _done, _total: None)
        assert store.put_artifact(manifest, files, lambda _done, _total: None)
        store.close()
        return manifest

    def spec(self, artifact: Digest | None = None, source: Digest = _SOURCE) -> ServingSpec:
        return ServingSpec(
            artifact_digest=artifact or self.artifact.digest,
            source_digest=source,
            engine=Engine.CPU,
            store=self.location,
            served_name="tiny",
        )

    @contextmanager
    def container(self, spec: str, variables: Mapping[str, str] | None = None) -> Iterator[_Container]:
        port, message = free_port(), self._folder / "termination-log"
        environment = {
            **self._environment,
            "NEURON_SERVING_SPEC": spec,
            "NEURON_WORK_DIR": str(self._folder / "work"),
            "TERMINATION_MESSAGE_PATH": str(message),
            "BIND_ADDRESS": "127.0.0.1",
            **(variables or {}),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(port)], env=environment, stderr=subprocess.PIPE, text=True
        )
        try:
            yield _Container(process, f"http://127.0.0.1:{port}", message)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def task() -> Task:
    """What the artifact was compiled for."""
    return Task.TEXT_GENERATION


@pytest.fixture
def platform(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task) -> _Platform:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint}.items():
        monkeypatch.setenv(name, value)
    location = StoreLocation(bucket="artifacts", domain=f"ns/{secrets.token_hex(4)}")
    return _Platform(endpoint, tmp_path, location, task)


def test_serves_until_it_is_told_to_end(platform: _Platform) -> None:
    with platform.container(platform.spec().to_json()) as container:
        container.wait_until_ready()
        client = openai.OpenAI(base_url=f"{container.url}/v1", api_key="none", max_retries=0)
        answer = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content == "It works."
        assert client.models.retrieve("tiny").created == 1767323045
        metrics = httpx.get(f"{container.url}/metrics", timeout=_WAIT).text
        for phase in ("Fetching", "Loading", "WarmingUp"):
            assert f'neuron_serving_load_phase_seconds{{phase="{phase}"}}' in metrics
        container.process.send_signal(signal.SIGTERM)
        assert container.end() == (ExitCode.OK, None)
        log = container.process.stderr.read() if container.process.stderr else ""
    assert "POST /v1/chat/completions 200" in log
    assert "It works" not in log


@pytest.mark.parametrize("task", [Task.EMBEDDING])
def test_an_encoder_serves_until_it_is_told_to_end(platform: _Platform) -> None:
    with platform.container(platform.spec().to_json()) as container:
        container.wait_until_ready()
        client = openai.OpenAI(base_url=f"{container.url}/v1", api_key="none", max_retries=0)
        answer = client.embeddings.create(model="tiny", input=[[1, 2], [3]])
        assert [one.embedding for one in answer.data] == [
            pytest.approx(vector_of([1, 2])),
            pytest.approx(vector_of([3])),
        ]
        assert client.models.retrieve("tiny").created == 1767323045
        container.process.send_signal(signal.SIGTERM)
        assert container.end() == (ExitCode.OK, None)


def test_an_artifact_that_is_not_there(platform: _Platform) -> None:
    missing = digest_of("never compiled")
    with platform.container(platform.spec(artifact=missing).to_json()) as container:
        code, message = container.end()
    assert code == ExitCode.ARTIFACT_MISSING
    assert message is not None and message.code is FailureCode.ARTIFACT_MISSING
    assert missing in message.message


def test_an_artifact_that_is_damaged(platform: _Platform, endpoint: str) -> None:
    file = platform.artifact.files[0]
    key = platform.location.file_key(platform.location.artifact_prefix(platform.artifact.digest), file)
    aws.s3_client(endpoint).put_object(Bucket="artifacts", Key=key, Body=b"It lies.")
    with platform.container(platform.spec().to_json()) as container:
        code, message = container.end()
    assert code == ExitCode.ARTIFACT_DAMAGED
    assert message is not None and message.code is FailureCode.ARTIFACT_DAMAGED
    assert "script.txt" in message.message


def test_weights_that_are_damaged(platform: _Platform, endpoint: str) -> None:
    (file,) = (file for file in platform.artifact.files if file.path == "weights")
    key = platform.location.file_key(platform.location.artifact_prefix(platform.artifact.digest), file)
    aws.s3_client(endpoint).put_object(Bucket="artifacts", Key=key, Body=os.urandom(_WEIGHTS))
    with platform.container(platform.spec().to_json()) as container:
        code, message = container.end()
    assert code == ExitCode.ARTIFACT_DAMAGED
    assert message is not None and message.code is FailureCode.ARTIFACT_DAMAGED
    assert "file weights" in message.message


def test_an_end_while_the_weights_are_on_their_way(platform: _Platform, endpoint: str) -> None:
    with breaking_proxy(int(endpoint.rsplit(":", 1)[1])) as proxy:
        proxy.hold_answers_after = _WEIGHTS // 2
        variables = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}
        with platform.container(platform.spec().to_json(), variables) as container:
            assert proxy.holding.wait(_WAIT)
            assert httpx.get(f"{container.url}/readyz", timeout=_WAIT).json()["phase"] == "Fetching"
            container.process.send_signal(signal.SIGTERM)
            assert container.end() == (ExitCode.OK, None)


def test_an_artifact_of_another_source(platform: _Platform) -> None:
    with platform.container(platform.spec(source=digest_of("other")).to_json()) as container:
        code, message = container.end()
    assert code == ExitCode.ARTIFACT_INCOMPATIBLE
    assert message is not None and message.code is FailureCode.ARTIFACT_INCOMPATIBLE
    assert _SOURCE in message.message


@pytest.mark.parametrize(
    ("spec", "variables", "named"),
    [
        ("{", {}, "NEURON_SERVING_SPEC"),
        ('{"engine": "CPU"}', {}, "artifactDigest"),
        ("", {}, "NEURON_SERVING_SPEC is not set"),
        (None, {"NEURON_WORK_DIR": ""}, "NEURON_WORK_DIR is not set"),
    ],
)
def test_a_container_that_is_started_wrongly(
    platform: _Platform, spec: str | None, variables: dict[str, str], named: str
) -> None:
    with platform.container(platform.spec().to_json() if spec is None else spec, variables) as container:
        code, message = container.end()
    assert code == ExitCode.INVALID_SPEC
    assert message is not None and message.code is FailureCode.INVALID_SPEC
    assert named in message.message


def test_a_store_that_cannot_be_reached(platform: _Platform) -> None:
    variables = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}"}
    with platform.container(platform.spec().to_json(), variables) as container:
        code, message = container.end()
    assert code == ExitCode.FAILED
    assert message is not None and message.code is FailureCode.STORE_UNREACHABLE
