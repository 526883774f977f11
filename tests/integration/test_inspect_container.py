"""The inspect container as a process: what it reads, what it answers, how it ends."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from huggingface_hub import close_session

from neuron_operator.planning.model_facts import model_facts
from neuron_runtime import inspect
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest, digest_of
from neuron_runtime.contract.inspection import (
    FACTS_LIMIT,
    CompiledArtifact,
    HuggingFaceRevision,
    InspectSpec,
    InspectTarget,
    WeightFormat,
)
from neuron_runtime.contract.model_config import PLANNING_FIELDS
from neuron_runtime.contract.origin import HuggingFaceOrigin, S3Origin, SecretKey, VolumeOrigin
from neuron_runtime.contract.outcome import ContainerFailure, ExitCode, FailureCode, TerminationMessage
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target
from neuron_runtime.contract.source import SourceFile, SourceManifest, source_digest
from neuron_runtime.contract.store import MANIFEST, StoreLocation
from neuron_runtime.store import describe_files, open_store
from support.breaking_proxy import breaking_proxy
from support.hub import CONFIG
from support.object_store import CREDENTIALS, object_store
from support.scripted_hub import COMMIT, DELIVERY_HOST, Refusal, ScriptedHub, scripted_hub

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_CONFIG = json.dumps(CONFIG).encode()
_WEIGHTS = b"w" * 3_000_000
_MEMORY = 256 * 1024 * 1024
_BUCKET = "models"


# A process's largest memory counts that of the one that started it: so a small one does.
_LAUNCH = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "neuron_runtime.inspect"])
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


@dataclass(frozen=True)
class _Ended:
    """How the container ended."""

    exit_code: int
    message: TerminationMessage
    memory: int
    """Bytes that it had resident at most."""
    log: str


def _environment(
    target: InspectTarget, folder: Path, variables: Mapping[str, str] | None, token: bool, allow_pickle: bool
) -> dict[str, str]:
    secret = SecretKey(secret="hf", key="token") if token else None
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return {
        "HOME": "/proc",
        "NEURON_INSPECT_SPEC": InspectSpec(target=target, token=secret, allow_pickle=allow_pickle).to_json(),
        "NEURON_WORK_DIR": str(work),
        "TERMINATION_MESSAGE_PATH": str(folder / "termination-log"),
        **(variables or {}),
    }


def _inspect(
    target: InspectTarget, folder: Path, variables: Mapping[str, str] | None = None, *, token: bool = False
) -> _Ended:
    """Run the container's process."""
    environment = {**os.environ, **_environment(target, folder, variables, token, allow_pickle=False)}
    command = [sys.executable, "-S", "-E", "-c", _LAUNCH]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    exit_code, memory = map(int, ended.stdout.split())
    text = (folder / "termination-log").read_text()
    assert len(text.encode()) <= FACTS_LIMIT
    message = TerminationMessage.decode(text)
    assert message is not None
    return _Ended(exit_code, message, memory * 1024, ended.stderr)


def _look(target: InspectTarget, folder: Path, *, allow_pickle: bool = False) -> TerminationMessage:
    """What the container's process would do, in this one."""
    try:
        message = inspect.run(_environment(target, folder, None, token=False, allow_pickle=allow_pickle))
    except ContainerFailure as failure:
        return TerminationMessage(
            code=failure.code, message=failure.message, retry_after_seconds=failure.retry_after_seconds
        )
    assert len(message.encode().encode()) <= FACTS_LIMIT
    return message


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What huggingface_hub is told through the environment of this process is put back afterwards."""
    for name in ("HF_HOME", "HF_XET_CACHE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_DEBUG"):
        monkeypatch.setenv(name, str(tmp_path / "hugging-face"))
    yield
    close_session()


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    files = {"config.json": _CONFIG, "model.safetensors": _WEIGHTS, "tokenizer.json": b"{}", "README.md": b"about"}
    with scripted_hub(files) as hub:
        yield hub


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("s3"), _BUCKET) as endpoint:
        yield endpoint


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Client]:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint}.items():
        monkeypatch.setenv(name, value)
    client: S3Client = boto3.client("s3")
    yield client
    client.close()


def _revision(hub: ScriptedHub) -> HuggingFaceRevision:
    return HuggingFaceRevision(repo="team/model", revision="main", endpoint=hub.endpoint)


def test_a_repository_is_pinned_and_only_its_metadata_is_read(hub: ScriptedHub, tmp_path: Path) -> None:
    hub.token = "hf_5ecre7"
    (tmp_path / "token").write_text(hub.token)
    ended = _inspect(_revision(hub), tmp_path, {"HF_TOKEN_PATH": str(tmp_path / "token")}, token=True)
    assert ended.exit_code == ExitCode.OK
    facts = ended.message.source
    assert facts is not None
    assert facts.origin == HuggingFaceOrigin(repo="team/model", commit=COMMIT, endpoint=hub.endpoint)
    assert facts.digest == source_digest(hub.source_files())
    assert facts.size_bytes == len(_CONFIG) + len(_WEIGHTS) + 2
    assert facts.weights is WeightFormat.SAFETENSORS
    assert model_facts(facts.config) == model_facts(CONFIG)
    assert {request.path.partition("?")[0] for request in hub.requests} == {
        "/api/models/team/model/revision/main",
        f"/team/model/resolve/{COMMIT}/config.json",
    }
    assert hub.token not in ended.log
    assert ended.memory <= _MEMORY


def test_a_listing_of_many_files_takes_little_memory(hub: ScriptedHub, tmp_path: Path) -> None:
    large = {"sha256": 64 * "a", "size": 10, "pointerSize": 134}
    others = [{"rfilename": f"data/{n}.parquet", "size": 10, "blobId": 40 * "a", "lfs": large} for n in range(20_000)]
    info = hub.info()
    assert isinstance(info, dict)
    hub.listing = {**info, "siblings": [*info["siblings"], *others]}
    ended = _inspect(_revision(hub), tmp_path)
    assert ended.message.source is not None
    assert ended.memory <= _MEMORY


def test_no_engine_is_imported() -> None:
    names = "('torch', 'numpy', 'safetensors', 'huggingface_hub')"
    code = f"import sys, neuron_runtime.inspect; print([name for name in {names} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


_HOSTILE = dict.fromkeys(PLANNING_FIELDS, "😀\x00" * 2_000) | {"architectures": ["\x01" * 100_000]}


@pytest.mark.parametrize(
    "config", [json.dumps(_HOSTILE), '{"hidden_size": ' + 4000 * "9" + "}"], ids=["text", "number"]
)
def test_an_answer_is_short_whatever_the_configuration_holds(hub: ScriptedHub, tmp_path: Path, config: str) -> None:
    hub.files["config.json"] = config.encode()
    message = _look(_revision(hub), tmp_path)
    assert message.source is not None


_INCOMPLETE, _UNSUPPORTED = FailureCode.SOURCE_INCOMPLETE, FailureCode.UNSUPPORTED_MODEL


@pytest.mark.parametrize(
    ("files", "allow_pickle", "code", "words"),
    [
        ({"README.md": b"about"}, False, FailureCode.SOURCE_NOT_FOUND, "has no file of a model"),
        ({"model.safetensors": b"w"}, False, _INCOMPLETE, "has no config.json at its top level"),
        ({"tokenizer.json": b"{}"}, False, _INCOMPLETE, "has no config.json and no *.safetensors"),
        ({"config.json": b"{}", "pytorch_model.bin": b"p"}, False, _INCOMPLETE, "spec.model.allowPickle"),
        ({"config.json": b"{}", "flax_model.msgpack": b"p"}, True, _INCOMPLETE, "has no weights"),
        ({"config.json": b"[]", "model.safetensors": b"w"}, False, _UNSUPPORTED, "no JSON object"),
        ({"config.json": b"[" * 100_000, "model.safetensors": b"w"}, False, _UNSUPPORTED, "no JSON object"),
        ({"config.json": b" " * 1_048_577, "model.safetensors": b"w"}, False, _UNSUPPORTED, "1048576 is the most"),
    ],
    ids=["nothing", "none", "neither", "pickle", "flax", "list", "deep", "large"],
)
def test_what_is_no_model_is_refused(
    hub: ScriptedHub, tmp_path: Path, files: dict[str, bytes], allow_pickle: bool, code: FailureCode, words: str
) -> None:
    hub.files = files
    message = _look(_revision(hub), tmp_path, allow_pickle=allow_pickle)
    assert message.code is code
    assert words in message.message and "team/model" in message.message


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"sha": "main"}, "something else than a hub does"),
        ({"sha": 64 * "c" + "0"}, "something else than a hub does"),
        ({"siblings": [{"rfilename": "config.json", "size": 10**30, "blobId": 40 * "a"}]}, "something else"),
        ({"siblings": [{"rfilename": "config.json", "size": -1, "blobId": 40 * "a"}]}, "something else"),
    ],
    ids=["branch", "long", "large", "negative"],
)
def test_a_listing_that_no_hub_gives_is_refused(
    hub: ScriptedHub, tmp_path: Path, listed: dict[str, object], words: str
) -> None:
    info = hub.info()
    assert isinstance(info, dict)
    hub.listing = info | listed
    message = _look(_revision(hub), tmp_path)
    assert message.code is FailureCode.SOURCE_UNREACHABLE
    assert words in message.message


def test_sizes_that_no_status_could_hold_are_refused(hub: ScriptedHub, tmp_path: Path) -> None:
    info = hub.info()
    assert isinstance(info, dict)
    large = {"sha256": 64 * "a", "size": 2**50 - 1, "pointerSize": 134}
    shards = [{"rfilename": f"{n}.safetensors", "size": 1, "blobId": 40 * "a", "lfs": large} for n in range(8200)]
    hub.listing = {**info, "siblings": [*info["siblings"], *shards]}
    message = _look(_revision(hub), tmp_path)
    assert message.code is FailureCode.UNSUPPORTED_MODEL
    assert "size" in message.message


def test_pickles_are_taken_where_that_is_allowed(hub: ScriptedHub, tmp_path: Path) -> None:
    hub.files = {"config.json": _CONFIG, "pytorch_model.bin": b"pickled"}
    facts = _look(_revision(hub), tmp_path, allow_pickle=True).source
    assert facts is not None
    assert facts.weights is WeightFormat.PICKLE
    assert facts.digest == source_digest(hub.source_files(), allow_pickle=True)
    assert not any(request.host == DELIVERY_HOST for request in hub.requests)


def test_a_missing_token_has_an_exit_code_of_its_own(hub: ScriptedHub, tmp_path: Path) -> None:
    ended = _inspect(_revision(hub), tmp_path, {"HF_TOKEN_PATH": str(tmp_path / "none")}, token=True)
    assert ended.exit_code == ExitCode.SOURCE_TOKEN_MISSING
    assert ended.message.code is FailureCode.SOURCE_TOKEN_MISSING
    assert "key token of Secret hf" in ended.message.message


def test_how_long_a_hub_limits_us_is_passed_on(hub: ScriptedHub, tmp_path: Path) -> None:
    hub.refuse_always = Refusal(429, headers={"Retry-After": "120"})
    ended = _inspect(_revision(hub), tmp_path)
    assert ended.message.code is FailureCode.SOURCE_RATE_LIMITED
    assert ended.message.retry_after_seconds == 120


def test_a_folder_of_a_bucket_is_inspected_without_its_weights(endpoint: str, client: S3Client, tmp_path: Path) -> None:
    prefix = f"team/{secrets.token_hex(4)}"
    for name, body in {"config.json": _CONFIG, "model.safetensors": _WEIGHTS}.items():
        client.put_object(Bucket=_BUCKET, Key=f"{prefix}/{name}", Body=body)
    origin = S3Origin(bucket=_BUCKET, prefix=prefix, region="us-east-1")
    with breaking_proxy(int(endpoint.rpartition(":")[2])) as proxy:
        ended = _inspect(origin, tmp_path, {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"})
        assert proxy.answered < 100_000
    facts = ended.message.source
    assert facts is not None
    assert facts.origin == origin
    assert facts.size_bytes == len(_CONFIG) + len(_WEIGHTS)
    assert model_facts(facts.config) == model_facts(CONFIG)
    assert ended.memory <= _MEMORY


def test_a_folder_of_a_claim_is_inspected(tmp_path: Path) -> None:
    folder = tmp_path / "claim" / "llama"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(_CONFIG)
    (folder / "model.safetensors").write_bytes(_WEIGHTS)
    origin = VolumeOrigin(claim_name="weights", path="llama")
    ended = _inspect(origin, tmp_path, {"NEURON_SOURCE_DIR": str(tmp_path / "claim")})
    facts = ended.message.source
    assert facts is not None
    assert facts.origin == origin
    assert model_facts(facts.config) == model_facts(CONFIG)
    assert ended.memory <= _MEMORY


def test_a_claim_that_leads_away_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "claim").mkdir()
    (tmp_path / "claim" / "config.json").symlink_to("/etc/hostname")
    ended = _inspect(VolumeOrigin(claim_name="w"), tmp_path, {"NEURON_SOURCE_DIR": str(tmp_path / "claim")})
    assert ended.exit_code == ExitCode.SOURCE_UNSAFE
    assert ended.message.code is FailureCode.SOURCE_UNSAFE


class _Store:
    """A store with an artifact and its source."""

    def __init__(self, folder: Path) -> None:
        self.location = StoreLocation(bucket=_BUCKET, prefix="theirs", domain=f"ns/{secrets.token_hex(4)}")
        self._store = open_store(self.location)
        self._folder = folder
        self.source_digest = digest_of(secrets.token_hex(8))
        self.request = CompileRequest(
            engine=Engine.CPU,
            toolchain={"torch": "2.13.0"},
            source_digest=self.source_digest,
            shapes=Shapes(max_model_length=64, max_batch_size=1, context_lengths=(8,), token_generation_batches=(1,)),
            dtype=DType.FLOAT32,
            target=Target.CPU,
        )

    @property
    def digest(self) -> Digest:
        return self.request.digest

    def put_source(self) -> None:
        folder = self._folder / "theirs"
        folder.mkdir()
        (folder / "config.json").write_bytes(_CONFIG)
        (folder / "model.safetensors").write_bytes(_WEIGHTS)
        manifest = SourceManifest(
            digest=self.source_digest, repo="team/model", commit=COMMIT, files=describe_files(folder)
        )
        assert self._store.put_source(manifest, folder, lambda _done, _total: None)

    def artifact(self, **changes: object) -> ArtifactManifest:
        fields: dict[str, object] = {
            "digest": self.digest,
            "request": self.request,
            "source_commit": COMMIT,
            "graphs": (),
            "files": (),
            "tools": {},
            "timings": {},
            "created_at": "2026-01-02T03:04:05Z",
        }
        return ArtifactManifest.model_validate({**fields, **changes})

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def store(client: S3Client, tmp_path: Path) -> Iterator[_Store]:
    store = _Store(tmp_path)
    yield store
    store.close()


def _put_manifest(client: S3Client, store: _Store, manifest: ArtifactManifest) -> CompiledArtifact:
    key = store.location.artifact_prefix(store.digest) + MANIFEST
    client.put_object(Bucket=_BUCKET, Key=key, Body=manifest.to_json().encode())
    found = StoreLocation.of_artifact(store.location.uri(store.location.artifact_prefix(store.digest)))
    assert found == (store.location, store.digest)
    return CompiledArtifact(store=store.location, digest=store.digest)


def test_an_artifact_of_ones_own_is_inspected_without_its_files(
    endpoint: str, client: S3Client, store: _Store, tmp_path: Path
) -> None:
    store.put_source()
    target = _put_manifest(client, store, store.artifact())
    with breaking_proxy(int(endpoint.rpartition(":")[2])) as proxy:
        ended = _inspect(target, tmp_path, {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{proxy.port}"})
        assert proxy.answered < 100_000
    facts = ended.message.artifact
    assert facts is not None
    assert facts.request == store.request
    assert facts.request.digest == store.digest
    assert (facts.source_commit, facts.source_location) == (COMMIT, "team/model")
    assert facts.source_size_bytes == len(_CONFIG) + len(_WEIGHTS)
    assert facts.created_at == "2026-01-02T03:04:05Z"
    assert model_facts(facts.config) == model_facts(CONFIG)
    assert ended.memory <= _MEMORY


def test_an_artifact_of_another_digest_is_refused(client: S3Client, store: _Store, tmp_path: Path) -> None:
    store.put_source()
    other = store.request.model_copy(update={"flags": ("-O1",)})
    for number, manifest in enumerate(
        (store.artifact(request=other, digest=other.digest), store.artifact(request=other))
    ):
        (tmp_path / str(number)).mkdir()
        message = _look(_put_manifest(client, store, manifest), tmp_path / str(number))
        assert message.code is FailureCode.ARTIFACT_DAMAGED


def test_an_artifact_that_is_not_there(store: _Store, tmp_path: Path) -> None:
    message = _look(CompiledArtifact(store=store.location, digest=store.digest), tmp_path)
    assert message.code is FailureCode.ARTIFACT_MISSING
    assert "spec.model.compiledArtifact" in message.message


def test_an_artifact_without_its_source(client: S3Client, store: _Store, tmp_path: Path) -> None:
    message = _look(_put_manifest(client, store, store.artifact()), tmp_path)
    assert message.code is FailureCode.SOURCE_MISSING
    assert store.source_digest in message.message


def test_an_artifact_whose_request_is_too_long_to_be_told(client: S3Client, store: _Store, tmp_path: Path) -> None:
    store.request = store.request.model_copy(update={"flags": tuple(f"--flag={number}" for number in range(500))})
    store.put_source()
    message = _look(_put_manifest(client, store, store.artifact()), tmp_path)
    assert message.code is FailureCode.ARTIFACT_INCOMPATIBLE
    assert str(FACTS_LIMIT) in message.message


@pytest.mark.parametrize("spec", [None, '{"target": {"kind": "Floppy"}}'])
def test_a_document_that_cannot_be_read(tmp_path: Path, spec: str | None) -> None:
    environment = {**os.environ, "TERMINATION_MESSAGE_PATH": str(tmp_path / "message")}
    if spec is not None:
        environment["NEURON_INSPECT_SPEC"] = spec
    ended = subprocess.run([sys.executable, "-m", "neuron_runtime.inspect"], env=environment, capture_output=True)
    assert ended.returncode == ExitCode.INVALID_SPEC
    message = TerminationMessage.decode((tmp_path / "message").read_text())
    assert message is not None and message.code is FailureCode.INVALID_SPEC


def test_content_ids_of_each_kind_are_told_apart() -> None:
    named = [
        SourceFile(path="a.json", size=1, content_id=f"{scheme}:1") for scheme in ("sha256", "s3-etag", "git-blob")
    ]
    assert len({source_digest([file]) for file in named}) == 3
