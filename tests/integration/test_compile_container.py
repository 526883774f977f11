"""The compile container as a process, with a real store: what it commits, what it leaves behind, how it ends.

The engine is a scripted one, but where the end of its processes is what matters.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import psutil
import pytest
import torch
from safetensors.torch import load_file

from neuron_localcluster.standins.repository import Repositories
from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest, digest_of
from neuron_runtime.contract.launch import CompileSpec
from neuron_runtime.contract.origin import HuggingFaceOrigin, Origin, S3Origin, SecretKey, VolumeOrigin
from neuron_runtime.contract.outcome import ExitCode, FailureCode, TerminationMessage
from neuron_runtime.contract.progress import Progress, Stage
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target
from neuron_runtime.contract.source import SourceManifest, source_digest
from neuron_runtime.contract.store import MANIFEST, StoreLocation
from neuron_runtime.engines.cpu import CPUEngine
from neuron_runtime.sources.s3 import S3Source
from neuron_runtime.sources.volume import VolumeSource
from neuron_runtime.store import Store, describe_files, open_store
from support.addresses import free_port
from support.breaking_proxy import breaking_proxy
from support.hub_process import digest_of_repository, hub_process
from support.object_store import CREDENTIALS, object_store
from support.scripted_compiler import ENDING, GRAPH, UNSUPPORTED
from support.waiting import wait_for

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_TESTS = Path(__file__).parents[1]
_SCRIPTED = """
import sys
from neuron_runtime.compile import main
from support.scripted_compiler import ScriptedCompiler
main(ScriptedCompiler, port=int(sys.argv[1]))
"""
_REAL = """
import sys
from neuron_runtime.compile import main
main(port=int(sys.argv[1]))
"""
_SOURCE = digest_of("source")
_WAIT = 180.0

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("s3"), "artifacts") as endpoint:
        yield endpoint


@dataclass
class _Container:
    process: subprocess.Popen[str]
    url: str
    message_path: Path
    ending_path: Path

    def wait_until(self, stage: Stage, done: int) -> Progress:
        """The progress, once it is so far."""

        def look() -> Progress | None:
            assert self.process.poll() is None, self.process.communicate()
            try:
                progress = Progress.model_validate(httpx.get(f"{self.url}/progress", timeout=_WAIT).json())
            except httpx.TransportError:
                return None
            return progress if progress.stage is stage and progress.done >= done else None

        return wait_for(f"{stage.value}, {done} steps", look, seconds=_WAIT)

    def end_compilation(self, how: str) -> None:
        written = self.ending_path.with_suffix(".new")
        written.write_text(how)
        written.rename(self.ending_path)

    def end(self) -> tuple[int, TerminationMessage | None]:
        code = self.process.wait(_WAIT)
        text = self.message_path.read_text() if self.message_path.exists() else ""
        return code, TerminationMessage.decode(text)


class _Platform:
    """A store with a source snapshot in it, and containers that compile it."""

    def __init__(self, folder: Path, store: Store, location: StoreLocation) -> None:
        self.folder = folder
        self.store = store
        self.location = location
        self.commit = "c" * 40
        self.source = folder / "snapshot"
        self.source.mkdir()
        tiny_llama(self.source)
        self.snapshot = SourceManifest(
            digest=_SOURCE, repo="a/b", commit=self.commit, files=describe_files(self.source)
        )
        assert store.put_source(self.snapshot, self.source, _no_report)

    def request(self, **changes: object) -> CompileRequest:
        fields: dict[str, object] = {
            "engine": Engine.CPU,
            "toolchain": {**CPUEngine().toolchain(), "march": "x86-64-v3"},
            "source_digest": _SOURCE,
            "shapes": Shapes(
                max_model_length=64, max_batch_size=1, context_lengths=(8,), token_generation_batches=(1,)
            ),
            "dtype": DType.FLOAT32,
            "target": Target.CPU,
        }
        return CompileRequest.model_validate({**fields, **changes})

    def spec(self, request: CompileRequest) -> str:
        origin = HuggingFaceOrigin(repo="a/b", commit=self.commit)
        return CompileSpec(request=request, origin=origin, store=self.location, threads=1, workers=2).to_json()

    @contextmanager
    def origin(self) -> Iterator[tuple[str, Digest]]:
        """A hub that has the source; its endpoint and the source's digest."""
        root = self.folder / "hub"
        shutil.copytree(self.source, root / "a" / "b")
        repository = Repositories(root).find("a", "b")
        assert repository is not None
        self.commit = repository.commit
        with hub_process(root) as endpoint:
            yield endpoint, digest_of_repository(repository)

    def put_artifact_of_another(self, request: CompileRequest) -> ArtifactManifest:
        """What another cluster's Job for the same request commits."""
        folder = self.folder / "theirs"
        folder.mkdir()
        (folder / GRAPH.path).write_text("theirs")
        manifest = ArtifactManifest(
            digest=request.digest,
            request=request,
            source_commit="c" * 40,
            graphs=(GRAPH,),
            files=describe_files(folder),
            tools={"made": "elsewhere"},
            timings={},
            created_at="2026-01-02T03:04:05Z",
        )
        assert self.store.put_artifact(manifest, folder, _no_report)
        return manifest

    @contextmanager
    def container(
        self, spec: str, *, start: str = _SCRIPTED, variables: Mapping[str, str] | None = None
    ) -> Iterator[_Container]:
        port, message, work = free_port(), self.folder / "termination-log", self.folder / "work"
        work.mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(_TESTS),
            "HF_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "NEURON_COMPILE_SPEC": spec,
            "NEURON_WORK_DIR": str(work),
            "TERMINATION_MESSAGE_PATH": str(message),
            "BIND_ADDRESS": "127.0.0.1",
            **(variables or {}),
        }
        process = subprocess.Popen(
            [sys.executable, "-c", start, str(port)], env=environment, stderr=subprocess.PIPE, text=True
        )
        try:
            yield _Container(process, f"http://127.0.0.1:{port}", message, work / ENDING)
        finally:
            process.kill()
            process.communicate()


def _no_report(_done: int, _total: int) -> None:
    """Nobody looks."""


@pytest.fixture
def platform(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Platform]:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint}.items():
        monkeypatch.setenv(name, value)
    location = StoreLocation(bucket="artifacts", domain=f"ns/{secrets.token_hex(4)}")
    store = open_store(location)
    yield _Platform(tmp_path, store, location)
    store.close()


@pytest.fixture
def s3(platform: _Platform) -> Iterator[S3Client]:
    client = boto3.client("s3")
    yield client
    client.close()


def _succeeded(digest: Digest) -> tuple[int, TerminationMessage]:
    return ExitCode.OK, TerminationMessage(artifact_digest=digest)


def test_commits_what_the_engine_compiled_and_tells_how_far_it_is(platform: _Platform) -> None:
    request = platform.request()
    with platform.container(platform.spec(request)) as container:
        progress = container.wait_until(Stage.COMPILING, 30)
        assert (progress.percent, progress.eta_seconds, progress.detail) == (30, 7.0, GRAPH.name)
        assert httpx.get(f"{container.url}/healthz", timeout=_WAIT).status_code == 200
        assert httpx.get(f"{container.url}/metrics", timeout=_WAIT).status_code == 404
        assert platform.store.read_artifact_manifest(request.digest) is None
        container.end_compilation("done")
        assert container.end() == _succeeded(request.digest)
    fetched = platform.folder / "fetched"
    manifest = platform.store.fetch_artifact(request.digest, fetched, _no_report)
    assert (manifest.request, manifest.graphs, manifest.source_commit) == (request, (GRAPH,), "c" * 40)
    assert manifest.tools == {"script": "1"}
    assert manifest.timings.keys() == {"Fetching", "Compiling", f"Compiling/{GRAPH.name}"}
    assert (fetched / GRAPH.path).read_bytes() == (platform.source / "config.json").read_bytes()


def test_an_artifact_that_is_committed_already_is_not_compiled_again(platform: _Platform) -> None:
    request = platform.request()
    theirs = platform.put_artifact_of_another(request)
    with platform.container(platform.spec(request)) as container:
        assert container.end() == _succeeded(request.digest)
    assert platform.store.read_artifact_manifest(request.digest) == theirs
    assert not (platform.folder / "work" / "source").exists()


@pytest.mark.parametrize(
    ("harm", "committed"),
    [
        ("no manifest", True),
        ("other manifest", True),
        ("other manifest", False),
        ("no file", False),
        ("other bytes", False),
    ],
)
def test_a_source_that_is_missing_or_damaged_in_the_store_comes_from_its_origin(
    platform: _Platform, s3: S3Client, harm: str, committed: bool
) -> None:
    with platform.origin() as (endpoint, digest):
        request = platform.request(source_digest=digest)
        snapshot = platform.snapshot.model_copy(update={"digest": digest})
        platform.store.put_source(snapshot, platform.source, _no_report)
        prefix = platform.location.source_prefix(digest)
        file = next(file for file in snapshot.files if file.path == "config.json")
        if harm == "no manifest":
            s3.delete_object(Bucket="artifacts", Key=prefix + MANIFEST)
        elif harm == "no file":
            s3.delete_object(Bucket="artifacts", Key=platform.location.file_key(prefix, file))
        elif harm == "other bytes":
            s3.put_object(Bucket="artifacts", Key=platform.location.file_key(prefix, file), Body=b"#" * file.size)
        else:
            s3.put_object(Bucket="artifacts", Key=prefix + MANIFEST, Body=b"{")
        if committed:
            platform.put_artifact_of_another(request)
        with platform.container(platform.spec(request), variables={"HF_ENDPOINT": endpoint}) as container:
            container.end_compilation("done")
            assert container.end() == _succeeded(request.digest)
    assert platform.store.read_artifact_manifest(request.digest) is not None
    fetched = platform.folder / "fetched"
    platform.store.fetch_source(digest, fetched, _no_report)
    assert describe_files(fetched) == snapshot.files


@pytest.mark.parametrize("stored", [False, True])
def test_a_model_that_the_engine_refuses_is_refused_before_its_weights_are_moved(
    platform: _Platform, stored: bool
) -> None:
    (platform.source / "config.json").write_text(json.dumps({"model_type": UNSUPPORTED}))
    with platform.origin() as (endpoint, digest):
        request = platform.request(source_digest=digest)
        if stored:
            snapshot = platform.snapshot.model_copy(update={"digest": digest, "files": describe_files(platform.source)})
            platform.store.put_source(snapshot, platform.source, _no_report)
        with platform.container(platform.spec(request), variables={"HF_ENDPOINT": endpoint}) as container:
            code, message = container.end()
    assert code == ExitCode.FAILED
    assert message is not None and message.code is FailureCode.UNSUPPORTED_MODEL
    assert list((platform.folder / "work" / "source").rglob("*.safetensors*")) == []
    assert (platform.store.read_source_manifest(digest) is not None) is stored


@pytest.mark.parametrize("kind", ["S3", "claim", "claim with pickles"])
def test_a_source_of_another_kind_is_copied_into_the_store(platform: _Platform, s3: S3Client, kind: str) -> None:
    origin: Origin = VolumeOrigin(claim_name="weights", path="models/llama")
    folder = platform.folder / "claim" / "models" / "llama"
    shutil.copytree(platform.source, folder)
    weights = load_file(folder / "model.safetensors")
    if kind == "claim with pickles":
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    if kind == "S3":
        prefix = f"origins/{secrets.token_hex(4)}"
        for path in folder.iterdir():
            s3.upload_file(str(path), "artifacts", f"{prefix}/{path.name}")
        origin = S3Origin(bucket="artifacts", prefix=prefix)
    allow_pickle = kind == "claim with pickles"
    source = S3Source(origin) if isinstance(origin, S3Origin) else VolumeSource(origin, platform.folder / "claim")
    with closing(source):
        digest = source_digest(source.files(), allow_pickle=allow_pickle)
    request = platform.request(source_digest=digest)
    spec = CompileSpec(request=request, origin=origin, store=platform.location, allow_pickle=allow_pickle)
    variables = {"NEURON_SOURCE_DIR": str(platform.folder / "claim")}
    with platform.container(spec.to_json(), variables=variables) as container:
        container.end_compilation("done")
        assert container.end() == _succeeded(request.digest)
    fetched = platform.folder / "fetched"
    manifest = platform.store.fetch_source(digest, fetched, _no_report)
    assert (manifest.repo, manifest.commit) == (origin.location, "")
    assert {path.name for path in fetched.iterdir()} == {path.name for path in platform.source.iterdir()}
    stored = load_file(fetched / "model.safetensors")
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in weights.items())


def test_a_token_that_is_asked_for_and_missing_ends_the_container(platform: _Platform) -> None:
    request = platform.request(source_digest=digest_of("not in the store"))
    spec = CompileSpec(
        request=request,
        origin=HuggingFaceOrigin(repo="a/b", commit=platform.commit),
        store=platform.location,
        token=SecretKey(secret="hub-token", key="value"),
    )
    variables = {"HF_TOKEN_PATH": str(platform.folder / "none")}
    with platform.container(spec.to_json(), variables=variables) as container:
        code, message = container.end()
    assert code == ExitCode.SOURCE_TOKEN_MISSING
    assert message is not None and message.code is FailureCode.SOURCE_TOKEN_MISSING
    assert "key value of Secret hub-token" in message.message


def test_an_artifact_that_another_commits_meanwhile_counts(platform: _Platform) -> None:
    request = platform.request()
    with platform.container(platform.spec(request)) as container:
        container.wait_until(Stage.COMPILING, 30)
        theirs = platform.put_artifact_of_another(request)
        container.end_compilation("done")
        assert container.end() == _succeeded(request.digest)
    assert platform.store.read_artifact_manifest(request.digest) == theirs


@pytest.mark.parametrize(
    ("ending", "code", "named"),
    [
        ("disk full", FailureCode.OUT_OF_DISK, "No space left on device"),
        ("OutOfMemory", FailureCode.OUT_OF_MEMORY, "as told: 1 threads, 2 workers"),
        ("CompilerFailed", FailureCode.COMPILER_FAILED, "as told"),
        ("crash", FailureCode.INTERNAL, "ZeroDivisionError: nobody foresaw this"),
    ],
)
def test_a_failure_of_the_engine_is_left_behind(
    platform: _Platform, ending: str, code: FailureCode, named: str
) -> None:
    request = platform.request()
    with platform.container(platform.spec(request)) as container:
        container.end_compilation(ending)
        exit_code, message = container.end()
    assert exit_code == ExitCode.FAILED
    assert message is not None and message.code is code
    assert named in message.message
    assert platform.store.read_artifact_manifest(request.digest) is None


@pytest.mark.parametrize(
    ("spec", "variables", "named"),
    [
        ("{", {}, "NEURON_COMPILE_SPEC"),
        ('{"threads": 1}', {}, "request"),
        ("", {}, "NEURON_COMPILE_SPEC is not set"),
        (None, {"NEURON_WORK_DIR": ""}, "NEURON_WORK_DIR is not set"),
    ],
)
def test_a_container_that_is_started_wrongly(
    platform: _Platform, spec: str | None, variables: dict[str, str], named: str
) -> None:
    given = platform.spec(platform.request()) if spec is None else spec
    with platform.container(given, variables=variables) as container:
        code, message = container.end()
    assert code == ExitCode.INVALID_SPEC
    assert message is not None and message.code is FailureCode.INVALID_SPEC
    assert named in message.message


def test_a_container_that_has_no_compiler_says_so(platform: _Platform) -> None:
    spec = platform.spec(platform.request())
    with platform.container(spec, start=_REAL, variables={"CXX": "/no/such/g++"}) as container:
        code, message = container.end()
    assert code == ExitCode.FAILED
    assert message is not None and message.code is FailureCode.TOOLCHAIN_MISMATCH
    assert "/no/such/g++" in message.message


def test_an_upload_that_hangs_does_not_keep_a_container_that_is_told_to_end(platform: _Platform, endpoint: str) -> None:
    request = platform.request()
    with breaking_proxy(int(endpoint.rsplit(":", 1)[1])) as proxy:
        proxy.hold_after = 20_000_000
        variables = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}
        with platform.container(platform.spec(request), variables=variables) as container:
            container.end_compilation("large")
            assert proxy.holding.wait(_WAIT)
            container.process.send_signal(signal.SIGTERM)
            # The store's client waits for 60 seconds.
            assert container.process.wait(40) == 128 + signal.SIGTERM
    assert platform.store.read_artifact_manifest(request.digest) is None


def test_a_download_that_hangs_does_not_keep_a_container_that_is_told_to_end(
    platform: _Platform, endpoint: str
) -> None:
    with breaking_proxy(int(endpoint.rsplit(":", 1)[1])) as proxy:
        proxy.hold_answers_after = 50_000
        variables = {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"}
        with platform.container(platform.spec(platform.request()), variables=variables) as container:
            assert proxy.holding.wait(_WAIT)
            container.process.send_signal(signal.SIGTERM)
            assert container.process.wait(10) == 128 + signal.SIGTERM


def test_a_container_that_is_told_to_end_takes_its_compilers_with_it(platform: _Platform) -> None:
    request = platform.request()
    with platform.container(platform.spec(request), start=_REAL) as container:
        container.wait_until(Stage.COMPILING, 0)
        compilers = wait_for("two compile processes", _at_least_two_children(container.process.pid), seconds=_WAIT)
        container.process.send_signal(signal.SIGTERM)
        assert container.end() == (128 + signal.SIGTERM, None)
    _, alive = psutil.wait_procs(compilers, timeout=40)
    for survivor in alive:
        survivor.kill()
    assert alive == []


def _at_least_two_children(pid: int) -> Callable[[], list[psutil.Process] | None]:
    def look() -> list[psutil.Process] | None:
        children = psutil.Process(pid).children(recursive=True)
        return children if len(children) >= 2 else None

    return look
