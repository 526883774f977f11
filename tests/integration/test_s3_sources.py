"""Sources in a bucket, over a real S3 API: the objects that were listed arrive, or nothing does."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import boto3
import pytest

from neuron_runtime.contract.origin import S3Origin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceFile, SourceManifest, source_digest
from neuron_runtime.sources import copy_snapshot, s3
from neuron_runtime.sources.s3 import S3Source
from support.breaking_proxy import breaking_proxy
from support.object_store import CREDENTIALS, object_store

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_BUCKET = "models"
_WEIGHTS = bytes(range(256)) * 90_000
"""More than one range."""


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


@pytest.fixture
def origin(client: S3Client) -> S3Origin:
    """A model in a folder of its own, beside what is not taken."""
    prefix = f"team/{secrets.token_hex(4)}"
    objects = {
        "": b"",
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors": _WEIGHTS,
        "1_Pooling/config.json": b"{}",
        "README.md": b"about",
        "onnx/config.json": b"other",
        "old/model.safetensors": b"other",
    }
    for name, body in objects.items():
        client.put_object(Bucket=_BUCKET, Key=f"{prefix}/{name}", Body=body)
    client.put_object(Bucket=_BUCKET, Key=f"{prefix}-other/generation_config.json", Body=b"{}")
    return S3Origin(bucket=_BUCKET, prefix=f"{prefix}/", region="us-east-1")


def _silent(_done: int, _total: int) -> None:
    """Nobody looks."""


def _files(origin: S3Origin) -> tuple[SourceFile, ...]:
    with closing(S3Source(origin)) as source:
        return source.files()


def _copy(origin: S3Origin, digest: str, folder: Path) -> SourceManifest:
    with closing(S3Source(origin)) as source:
        return copy_snapshot(source, origin, digest, folder, _silent, lambda: None)


def _failure(origin: S3Origin, digest: str, folder: Path) -> ContainerFailure:
    with pytest.raises(ContainerFailure) as raised:
        _copy(origin, digest, folder)
    return raised.value


def test_the_objects_of_the_folder_arrive(origin: S3Origin, tmp_path: Path) -> None:
    manifest = _copy(origin, source_digest(_files(origin)), tmp_path / "source")
    assert [file.path for file in manifest.files] == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert (tmp_path / "source" / "model.safetensors").read_bytes() == _WEIGHTS
    assert manifest.repo == f"s3://{_BUCKET}/{origin.prefix}"
    assert manifest.commit == ""
    assert not list((tmp_path / "source").glob(".*"))


@pytest.mark.parametrize("prefix", ["{0}", "{0}/", "/{0}/"])
def test_slashes_around_a_prefix_say_nothing(origin: S3Origin, prefix: str) -> None:
    written = origin.model_copy(update={"prefix": prefix.format(origin.prefix.strip("/"))})
    assert source_digest(_files(written)) == source_digest(_files(origin))


def test_without_versions_the_etag_names_the_content(client: S3Client, origin: S3Origin) -> None:
    before = source_digest(_files(origin))
    client.put_object(Bucket=_BUCKET, Key=f"{origin.prefix}config.json", Body=b'{"model_type": "llama"}')
    assert source_digest(_files(origin)) == before
    assert all(file.content_id.startswith("s3-etag:") for file in _files(origin))
    client.put_object(Bucket=_BUCKET, Key=f"{origin.prefix}config.json", Body=b'{"model_type": "LLAMA"}')
    assert source_digest(_files(origin)) != before


def test_with_versions_the_version_names_the_object(client: S3Client, origin: S3Origin, tmp_path: Path) -> None:
    bucket = f"versions-{secrets.token_hex(4)}"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    versioned = S3Origin(bucket=bucket)
    for name, body in (("config.json", b"{}"), ("model.safetensors", _WEIGHTS)):
        client.put_object(Bucket=bucket, Key=name, Body=body)
    files = _files(versioned)
    assert {file.content_id.partition(":")[0] for file in files} == {"s3-version"}
    with closing(S3Source(versioned)) as source:
        source.files()
        # Overwritten after it was listed: the version that was listed is still there, and it is what arrives.
        client.put_object(Bucket=bucket, Key="model.safetensors", Body=_WEIGHTS[::-1])
        target = tmp_path / "model.safetensors"
        from neuron_runtime.store.files import ByteCount

        source.bring(next(file for file in files if file.path == target.name), target, ByteCount(0, _silent))
    assert target.read_bytes() == _WEIGHTS
    failure = _failure(versioned, source_digest(files), tmp_path / "source")
    assert failure.code is FailureCode.SOURCE_CHANGED


def test_what_is_overwritten_between_listing_and_download(client: S3Client, origin: S3Origin, tmp_path: Path) -> None:
    digest = source_digest(_files(origin))

    def overwrite() -> None:
        client.put_object(Bucket=_BUCKET, Key=f"{origin.prefix}model.safetensors", Body=_WEIGHTS[::-1])

    with closing(S3Source(origin)) as source, pytest.raises(ContainerFailure) as raised:
        # Between the small files and the weights.
        copy_snapshot(source, origin, digest, tmp_path / "source", _silent, overwrite)
    assert raised.value.code is FailureCode.SOURCE_CHANGED
    assert "overwritten after it was listed" in raised.value.message
    assert not (tmp_path / "source" / "model.safetensors").exists()


def test_what_is_deleted_between_listing_and_download(client: S3Client, origin: S3Origin, tmp_path: Path) -> None:
    digest = source_digest(_files(origin))

    def delete() -> None:
        client.delete_object(Bucket=_BUCKET, Key=f"{origin.prefix}model.safetensors")

    with closing(S3Source(origin)) as source, pytest.raises(ContainerFailure) as raised:
        copy_snapshot(source, origin, digest, tmp_path / "source", _silent, delete)
    assert raised.value.code is FailureCode.SOURCE_CHANGED
    assert "it was listed, but it does not exist" in raised.value.message


def test_other_objects_than_were_resolved(client: S3Client, origin: S3Origin, tmp_path: Path) -> None:
    digest = source_digest(_files(origin))
    client.put_object(Bucket=_BUCKET, Key=f"{origin.prefix}tokenizer.json", Body=b"{}")
    failure = _failure(origin, digest, tmp_path / "source")
    assert failure.code is FailureCode.SOURCE_CHANGED
    assert digest in failure.message and f"s3://{_BUCKET}/{origin.prefix}" in failure.message
    assert not list((tmp_path / "source").iterdir())


def test_an_object_of_several_parts_has_no_md5_and_arrives(client: S3Client, origin: S3Origin, tmp_path: Path) -> None:
    key = f"{origin.prefix}model.safetensors"
    upload = client.create_multipart_upload(Bucket=_BUCKET, Key=key)["UploadId"]
    half = len(_WEIGHTS) // 2
    parts = []
    for number, body in enumerate((_WEIGHTS[:half], _WEIGHTS[half:]), 1):
        answer = client.upload_part(Bucket=_BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(Bucket=_BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    assert any(file.content_id.endswith("-2") for file in _files(origin))
    _copy(origin, source_digest(_files(origin)), tmp_path / "source")
    assert (tmp_path / "source" / "model.safetensors").read_bytes() == _WEIGHTS


def test_a_download_that_breaks_off_goes_on(
    endpoint: str, origin: S3Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = source_digest(_files(origin))
    with breaking_proxy(int(endpoint.rpartition(":")[2])) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{proxy.port}")
        proxy.after, proxy.breaks = 4_000_000, 2
        _copy(origin, digest, tmp_path / "source")
        assert proxy.broken == 2
    assert (tmp_path / "source" / "model.safetensors").read_bytes() == _WEIGHTS


def test_a_bucket_that_does_not_exist(client: S3Client) -> None:
    with pytest.raises(ContainerFailure) as raised:
        _files(S3Origin(bucket="no-such-bucket-of-models", prefix="x"))
    assert raised.value.code is FailureCode.SOURCE_NOT_FOUND
    assert "spec.model.s3" in raised.value.message


def test_a_folder_that_is_empty_has_no_files(client: S3Client) -> None:
    assert _files(S3Origin(bucket=_BUCKET, prefix="nothing/here")) == ()


def test_s3_that_cannot_be_reached_is_told_as_a_source(client: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ContainerFailure) as raised:
        _files(S3Origin(bucket=_BUCKET, prefix="x"))
    assert raised.value.code is FailureCode.SOURCE_UNREACHABLE


def test_without_credentials_the_service_account_is_named(client: S3Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    with pytest.raises(ContainerFailure) as raised:
        _files(S3Origin(bucket=_BUCKET, prefix="x"))
    assert raised.value.code is FailureCode.SOURCE_ACCESS_DENIED
    assert "ServiceAccount" in raised.value.message


class _Bucket:
    """An S3 API of one object that answers as a test decides."""

    def __init__(self) -> None:
        self.body = b"{}"
        self.sent = b"{}"
        """What it sends for it."""
        self.refusal: tuple[int, str] | None = None
        self.refuse_only = ""
        """A method, where only that is refused."""
        self.asked: list[str] = []

    def handler(self) -> type[BaseHTTPRequestHandler]:
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                bucket.asked.append(f"{self.command} {self.path}")
                if bucket.refusal is not None and bucket.refuse_only in ("", self.command):
                    status, code = bucket.refusal
                    self._answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
                elif "list-type=2" in self.path:
                    entry = f"<Contents><Key>m/config.json</Key><Size>{len(bucket.body)}</Size></Contents>"
                    self._answer(200, f"<ListBucketResult>{entry}</ListBucketResult>".encode())
                else:
                    etag = hashlib.md5(bucket.body, usedforsecurity=False).hexdigest()
                    end = len(bucket.body) - 1
                    ranged = {"Content-Range": f"bytes 0-{end}/{end + 1}"} if self.command == "GET" else {}
                    self._answer(206 if ranged else 200, bucket.sent, {"ETag": f'"{etag}"', **ranged})

            do_HEAD = do_GET

            def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = MappingProxyType({})) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def scripted(client: S3Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Bucket]:
    bucket = _Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), bucket.handler())
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    yield bucket
    server.shutdown()
    thread.join()
    server.server_close()


_SCRIPTED = S3Origin(bucket=_BUCKET, prefix="m", region="us-east-1")


def test_bytes_that_are_not_those_of_the_etag_are_refused(scripted: _Bucket, tmp_path: Path) -> None:
    digest = source_digest(_files(_SCRIPTED))
    _copy(_SCRIPTED, digest, tmp_path / "right")
    scripted.sent = b"[]"
    failure = _failure(_SCRIPTED, digest, tmp_path / "wrong")
    assert failure.code is FailureCode.SOURCE_CHANGED
    assert "MD5" in failure.message and "config.json" in failure.message
    assert not list((tmp_path / "wrong").iterdir())


@pytest.mark.parametrize(
    ("method", "refusal", "code", "words"),
    [
        ("GET", (403, "AccessDenied"), FailureCode.SOURCE_ACCESS_DENIED, "s3:ListBucket"),
        ("HEAD", (403, ""), FailureCode.SOURCE_ACCESS_DENIED, "s3:GetObject"),
        ("GET", (403, "ExpiredToken"), FailureCode.SOURCE_ACCESS_DENIED, "the IAM role of the pod's ServiceAccount"),
        ("GET", (301, "PermanentRedirect"), FailureCode.SOURCE_NOT_FOUND, "spec.model.s3.region"),
        ("GET", (404, "NoSuchBucket"), FailureCode.SOURCE_NOT_FOUND, "spec.model.s3"),
    ],
)
def test_each_refusal_names_the_right_or_the_field(
    scripted: _Bucket, method: str, refusal: tuple[int, str], code: FailureCode, words: str
) -> None:
    scripted.refusal, scripted.refuse_only = refusal, method
    with pytest.raises(ContainerFailure) as raised:
        _files(_SCRIPTED)
    assert raised.value.code is code
    assert words in raised.value.message
    assert "artifactStore" not in raised.value.message


def test_a_prefix_that_is_no_folder_of_a_model(
    client: S3Client, origin: S3Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_MOST_OBJECTS", 5)
    with pytest.raises(ContainerFailure) as raised:
        _files(origin)
    assert raised.value.code is FailureCode.SOURCE_NOT_FOUND
    assert "spec.model.s3.uri names no folder of a model" in raised.value.message


def test_only_what_was_listed_is_asked_for(scripted: _Bucket) -> None:
    """Where the right to list is bound to a prefix, S3 answers 403 for an object that is not there."""
    _files(_SCRIPTED)
    assert [asked.partition("?")[0] for asked in scripted.asked] == ["GET /models", "HEAD /models/m/config.json"]
