"""The store against a real S3 API: what is put comes back verified, and every kind of damage has its name."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import digest_of
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target
from neuron_runtime.contract.source import SourceManifest
from neuron_runtime.contract.store import MANIFEST, StoreLocation
from neuron_runtime.store import Store, describe_files, open_store
from neuron_runtime.store.body import AnswerBody
from support.addresses import free_port
from support.breaking_proxy import breaking_proxy
from support.object_store import CREDENTIALS, object_store

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# Longer than one range, so that a file arrives in several.
_LARGE = 40 * 1024 * 1024
_LOCATION = StoreLocation(bucket="artifacts", prefix="team", domain="ns/test")


def _quiet(_done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("s3"), _LOCATION.bucket) as endpoint:
        yield endpoint


@pytest.fixture
def environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(environment: None) -> Iterator[S3Client]:
    client = boto3.client("s3")
    yield client
    client.close()


@pytest.fixture
def location(request: pytest.FixtureRequest) -> StoreLocation:
    """A place of the test's own, as the digests of all tests are the same."""
    return _LOCATION.model_copy(update={"domain": f"ns/{request.node.name[:60]}"})


@pytest.fixture
def store(environment: None, location: StoreLocation) -> Iterator[Store]:
    store = open_store(location)
    yield store
    store.close()


def _request(**changes: object) -> CompileRequest:
    request = CompileRequest(
        engine=Engine.CPU,
        toolchain={"torch": "2.13.0"},
        source_digest=digest_of("source"),
        shapes=Shapes(max_model_length=512, max_batch_size=4, context_lengths=(64,), token_generation_batches=(1,)),
        dtype=DType.FLOAT32,
        target=Target.CPU,
    )
    return request.model_copy(update=changes)


def _artifact(folder: Path, content: bytes = b"", seconds: float = 1.0) -> ArtifactManifest:
    (folder / "graphs").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(content or os.urandom(_LARGE))
    (folder / "graphs" / "decode.pt2").write_bytes(b"graph")
    (folder / "empty").write_bytes(b"")
    request = _request()
    return ArtifactManifest(
        digest=request.digest,
        request=request,
        source_commit="abc",
        graphs=(),
        files=describe_files(folder),
        tools={"torch": "2.13.0"},
        timings={"compile": seconds},
        created_at="2026-01-01T00:00:00Z",
    )


def _key(location: StoreLocation, manifest: ArtifactManifest, path: str) -> str:
    file = next(file for file in manifest.files if file.path == path)
    return location.file_key(location.artifact_prefix(manifest.digest), file)


def _failure(caught: pytest.ExceptionInfo[ContainerFailure]) -> tuple[FailureCode, str]:
    return caught.value.code, caught.value.message


def test_round_trip(store: Store, tmp_path: Path) -> None:
    manifest = _artifact(tmp_path / "made")
    assert store.read_artifact_manifest(manifest.digest) is None
    assert store.put_artifact(manifest, tmp_path / "made", _quiet)
    reports: list[tuple[int, int]] = []
    fetched = store.fetch_artifact(manifest.digest, tmp_path / "got", lambda done, total: reports.append((done, total)))
    assert fetched == manifest
    assert describe_files(tmp_path / "got") == manifest.files
    done = [step for step, _ in reports]
    assert done == sorted(done)
    assert reports[-1] == (manifest.size_bytes, manifest.size_bytes)


def test_each_file_is_told_once_it_is_verified_and_small_ones_first(store: Store, tmp_path: Path) -> None:
    manifest = _artifact(tmp_path / "made")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    for _ in ("fetched", "found"):
        told = list[str]()

        def arrived(path: str, told: list[str] = told) -> None:
            assert describe_files(tmp_path / "got", [path])[0] in manifest.files
            told.append(path)

        store.fetch_artifact(manifest.digest, tmp_path / "got", _quiet, arrived=arrived)
        assert told == ["empty", "graphs/decode.pt2", "weights.safetensors"]


def test_source_round_trip_of_chosen_files(store: Store, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "config.json").write_text("{}")
    (tmp_path / "made" / "model.safetensors").write_bytes(b"weights")
    manifest = SourceManifest(
        digest=digest_of("source"), repo="a/b", commit="c", files=describe_files(tmp_path / "made")
    )
    assert store.put_source(manifest, tmp_path / "made", _quiet)
    assert not store.put_source(manifest, tmp_path / "made", _quiet)
    store.fetch_source(manifest.digest, tmp_path / "got", _quiet, wanted=lambda path: path.endswith(".json"))
    assert [file.name for file in (tmp_path / "got").iterdir()] == ["config.json"]


def test_what_is_there_and_right_is_not_fetched_again(
    store: Store, s3: S3Client, location: StoreLocation, tmp_path: Path
) -> None:
    manifest = _artifact(tmp_path / "made", b"weights")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    store.fetch_artifact(manifest.digest, tmp_path / "got", _quiet)
    (tmp_path / "got" / "graphs" / "decode.pt2").write_bytes(b"grapX")
    # Only the file that is wrong here is asked for: the other one is gone from the bucket, and not missed.
    s3.delete_object(Bucket=location.bucket, Key=_key(location, manifest, "weights.safetensors"))
    store.fetch_artifact(manifest.digest, tmp_path / "got", _quiet)
    assert describe_files(tmp_path / "got") == manifest.files


def test_missing_manifest(store: Store, location: StoreLocation, tmp_path: Path) -> None:
    digest = _request(flags=("other",)).digest
    with pytest.raises(ContainerFailure) as caught:
        store.fetch_artifact(digest, tmp_path, _quiet)
    code, message = _failure(caught)
    assert code is FailureCode.ARTIFACT_MISSING
    assert location.uri(location.artifact_prefix(digest) + MANIFEST) in message


def test_an_artifact_that_its_reader_cannot_use_is_not_fetched(store: Store, tmp_path: Path) -> None:
    manifest = _artifact(tmp_path / "made")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    seen = list[ArtifactManifest]()

    def check(found: ArtifactManifest) -> None:
        seen.append(found)
        raise ContainerFailure(FailureCode.ARTIFACT_INCOMPATIBLE, "another instruction set")

    with pytest.raises(ContainerFailure, match="another instruction set"):
        store.fetch_artifact(manifest.digest, tmp_path / "got", _quiet, check=check)
    assert seen == [manifest]
    assert not (tmp_path / "got").exists()


def test_a_source_that_is_missing_or_damaged_is_not_blamed_on_the_artifact(
    store: Store, s3: S3Client, location: StoreLocation, tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "config.json").write_text("{}")
    files = describe_files(tmp_path / "made")
    manifest = SourceManifest(digest=digest_of("source"), repo="a/b", commit="c", files=files)
    with pytest.raises(ContainerFailure, match="source snapshot") as caught:
        store.fetch_source(manifest.digest, tmp_path / "got", _quiet)
    assert caught.value.code is FailureCode.SOURCE_MISSING
    store.put_source(manifest, tmp_path / "made", _quiet)
    key = location.file_key(location.source_prefix(manifest.digest), files[0])
    s3.put_object(Bucket=location.bucket, Key=key, Body=b"[]")
    with pytest.raises(ContainerFailure, match=r"config\.json") as caught:
        store.fetch_source(manifest.digest, tmp_path / "got", _quiet)
    assert caught.value.code is FailureCode.SOURCE_DAMAGED
    store.replace_source(manifest, tmp_path / "made", _quiet)
    assert store.fetch_source(manifest.digest, tmp_path / "got", _quiet) == manifest


@pytest.mark.parametrize(
    ("content", "finding"),
    [(b"weightS", "SHA-256"), (b"weigh", "bytes"), (b"", "shorter than 7 bytes"), (None, "does not exist")],
)
def test_damaged_file_is_named_and_never_appears(
    store: Store, s3: S3Client, location: StoreLocation, tmp_path: Path, content: bytes | None, finding: str
) -> None:
    manifest = _artifact(tmp_path / "made", b"weights")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    key = _key(location, manifest, "weights.safetensors")
    if content is None:
        s3.delete_object(Bucket=location.bucket, Key=key)
    else:
        s3.put_object(Bucket=location.bucket, Key=key, Body=content)
    with pytest.raises(ContainerFailure) as caught:
        store.fetch_artifact(manifest.digest, tmp_path / "got", _quiet)
    code, message = _failure(caught)
    assert code is FailureCode.ARTIFACT_DAMAGED
    assert "weights.safetensors" in message and finding in message
    assert not (tmp_path / "got" / "weights.safetensors").exists()


def test_damage_says_what_was_expected_and_found(
    store: Store, s3: S3Client, location: StoreLocation, tmp_path: Path
) -> None:
    manifest = _artifact(tmp_path / "made", b"weights")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    s3.put_object(Bucket=location.bucket, Key=_key(location, manifest, "weights.safetensors"), Body=b"WEIGHTS")
    with pytest.raises(ContainerFailure) as caught:
        store.fetch_artifact(manifest.digest, tmp_path / "got", _quiet)
    (tmp_path / "other").write_bytes(b"WEIGHTS")
    found = describe_files(tmp_path, ["other"])[0].sha256
    expected = next(file.sha256 for file in manifest.files if file.path == "weights.safetensors")
    assert found in caught.value.message and expected in caught.value.message


def test_the_second_writer_loses_and_damages_nothing(store: Store, tmp_path: Path) -> None:
    first, second = _artifact(tmp_path / "a", b"first's"), _artifact(tmp_path / "b", b"second's", seconds=2.0)
    with ThreadPoolExecutor() as pool:
        won = list(
            pool.map(
                lambda item: store.put_artifact(item[0], item[1], _quiet),
                [(first, tmp_path / "a"), (second, tmp_path / "b")],
            )
        )
    assert sorted(won) == [False, True]
    assert store.fetch_artifact(first.digest, tmp_path / "got", _quiet) == (first if won[0] else second)


def test_a_commit_refused_because_it_was_ours_is_a_success(
    store: Store, s3: S3Client, location: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _artifact(tmp_path / "made", b"weights")
    upload = Store._upload

    def upload_and_commit(self: Store, *arguments: object) -> None:
        # As when S3 took the manifest, its answer was lost, and the request is sent again.
        upload(self, *arguments)  # type: ignore[arg-type]
        key = location.artifact_prefix(manifest.digest) + MANIFEST
        s3.put_object(Bucket=location.bucket, Key=key, Body=manifest.to_json().encode())

    monkeypatch.setattr(Store, "_upload", upload_and_commit)
    assert store.put_artifact(manifest, tmp_path / "made", _quiet)


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", ".."])
def test_paths_cannot_leave_the_folder(
    store: Store, s3: S3Client, location: StoreLocation, tmp_path: Path, path: str
) -> None:
    manifest = _artifact(tmp_path / "made", b"weights")
    document = manifest.to_document()
    document["files"][0]["path"] = path
    key = location.artifact_prefix(manifest.digest) + MANIFEST
    s3.put_object(Bucket=location.bucket, Key=key, Body=json.dumps(document).encode())
    with pytest.raises(ContainerFailure, match="not a relative path") as caught:
        store.fetch_artifact(manifest.digest, tmp_path / "got", _quiet)
    assert caught.value.code is FailureCode.ARTIFACT_DAMAGED


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", FailureCode.ARTIFACT_DAMAGED),
        (b'{"digest": "x"}', FailureCode.ARTIFACT_DAMAGED),
        (b'{"contractVersion": 2}', FailureCode.ARTIFACT_INCOMPATIBLE),
    ],
)
def test_a_manifest_that_cannot_be_read(
    store: Store, s3: S3Client, location: StoreLocation, body: bytes, code: FailureCode
) -> None:
    digest = _request().digest
    s3.put_object(Bucket=location.bucket, Key=location.artifact_prefix(digest) + MANIFEST, Body=body)
    with pytest.raises(ContainerFailure) as caught:
        store.read_artifact_manifest(digest)
    assert caught.value.code is code


def test_a_manifest_of_something_else_is_damage(
    store: Store, s3: S3Client, location: StoreLocation, tmp_path: Path
) -> None:
    manifest = _artifact(tmp_path / "made", b"weights")
    asked = _request(flags=("other",)).digest
    key = location.artifact_prefix(asked) + MANIFEST
    s3.put_object(Bucket=location.bucket, Key=key, Body=manifest.to_json().encode())
    with pytest.raises(ContainerFailure, match=manifest.digest) as caught:
        store.read_artifact_manifest(asked)
    assert caught.value.code is FailureCode.ARTIFACT_DAMAGED


def test_a_failed_upload_does_not_wait_for_the_others(
    endpoint: str, store: Store, location: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _artifact(tmp_path / "made")
    (tmp_path / "made" / "graphs" / "decode.pt2").unlink()
    with breaking_proxy(int(endpoint.rsplit(":", 1)[1])) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        behind = open_store(location)
        proxy.hold_after = 20_000_000
        started = time.monotonic()
        # Of this machine, and not of the store.
        with pytest.raises(FileNotFoundError, match="decode"):
            behind.put_artifact(manifest, tmp_path / "made", _quiet)
        assert time.monotonic() - started < 20
        behind.close()
    assert store.read_artifact_manifest(manifest.digest) is None


def test_a_bucket_that_does_not_exist(environment: None) -> None:
    store = open_store(StoreLocation(bucket="no-such-bucket", domain="shared"))
    with pytest.raises(ContainerFailure, match="no-such-bucket") as caught:
        store.read_artifact_manifest(_request().digest)
    assert caught.value.code is FailureCode.STORE_BUCKET_NOT_FOUND
    store.close()


def test_a_store_that_does_not_answer(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    store = open_store(_LOCATION)
    with pytest.raises(ContainerFailure, match="cannot be reached") as caught:
        store.read_artifact_manifest(_request().digest)
    assert caught.value.code is FailureCode.STORE_UNREACHABLE
    store.close()


def test_answers_that_break_off_are_fetched_again(
    endpoint: str, store: Store, location: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _artifact(tmp_path / "made")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    with breaking_proxy(int(endpoint.rsplit(":", 1)[1])) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        behind = open_store(location)
        proxy.after, proxy.breaks = 3_000_000, 3
        reports: list[int] = []
        behind.fetch_artifact(manifest.digest, tmp_path / "got", lambda done, _total: reports.append(done))
        behind.close()
        assert proxy.broken == 3
    assert describe_files(tmp_path / "got") == manifest.files
    assert reports[-1] == manifest.size_bytes


_FETCH = """
import sys
from pathlib import Path
from neuron_runtime.contract.store import StoreLocation
from neuron_runtime.store import open_store
location, digest, folder = sys.argv[1:]
store = open_store(StoreLocation.model_validate_json(location))
store.fetch_artifact(digest, Path(folder), lambda done, total: print(done, flush=True))
"""


def test_what_a_killed_process_had_fetched_is_not_fetched_again(
    endpoint: str, store: Store, location: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _artifact(tmp_path / "made")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    with breaking_proxy(int(endpoint.rsplit(":", 1)[1])) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        proxy.hold_answers_after = 7_000_000
        command = [sys.executable, "-c", _FETCH, location.to_json(), manifest.digest, str(tmp_path / "got")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            fetched = next(done for line in process.stdout if (done := int(line)) > 8_000_000)
            process.kill()
        assert not (tmp_path / "got" / "weights.safetensors").exists()
    with breaking_proxy(int(endpoint.rsplit(":", 1)[1])) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        behind = open_store(location)
        reports: list[int] = []
        behind.fetch_artifact(manifest.digest, tmp_path / "got", lambda done, _total: reports.append(done))
        behind.close()
        assert proxy.answered < manifest.size_bytes - fetched + 100_000
    assert describe_files(tmp_path / "got") == manifest.files
    assert reports[-1] == manifest.size_bytes


def test_what_was_lost_of_a_file_that_is_resumed_is_fetched_after_all(store: Store, tmp_path: Path) -> None:
    manifest = _artifact(tmp_path / "made")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    weights = next(file for file in manifest.files if file.path == "weights.safetensors")
    (tmp_path / "got").mkdir()
    # As a node leaves it that lost its power: the file's end, which says that all is there, but not its content.
    left = tmp_path / "got" / f".weights.safetensors.{weights.sha256[:16]}.partial"
    left.write_bytes(bytes(weights.size) + struct.pack("<5Q", *5 * [8 * 1024 * 1024]))
    reports: list[int] = []
    store.fetch_artifact(manifest.digest, tmp_path / "got", lambda done, _total: reports.append(done))
    assert describe_files(tmp_path / "got") == manifest.files
    assert reports[-1] == manifest.size_bytes
    assert reports != sorted(reports)


def test_connections_are_used_again(
    endpoint: str, location: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    for number in range(60):
        (tmp_path / "made" / f"{number}.json").write_text(f"{{{number}}}")
    files = describe_files(tmp_path / "made")
    manifest = SourceManifest(digest=digest_of("source"), repo="a/b", commit="c", files=files)
    with breaking_proxy(int(endpoint.rsplit(":", 1)[1])) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        behind = open_store(location)
        behind.put_source(manifest, tmp_path / "made", _quiet)
        before = len(proxy.connections)
        behind.fetch_source(manifest.digest, tmp_path / "got", _quiet)
        behind.close()
        assert len(proxy.connections) - before <= 16
    assert describe_files(tmp_path / "got") == files


def test_bodies_are_read_without_reaching_below_urllib3_where_it_has_changed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _artifact(tmp_path / "made")
    store.put_artifact(manifest, tmp_path / "made", _quiet)
    monkeypatch.setattr(AnswerBody, "_plain", property(lambda self: None, lambda self, found: None), raising=False)
    store.fetch_artifact(manifest.digest, tmp_path / "got", _quiet)
    assert describe_files(tmp_path / "got") == manifest.files
