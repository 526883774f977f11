"""The operator's look at the store, over real HTTP: what S3 answers, and what it becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from neuron_operator.aws.artifacts import (
    BucketNotFound,
    CredentialsRejected,
    ManifestUnreadable,
    S3Artifacts,
    StoreAccessDenied,
    StoreUnreachable,
)
from neuron_operator.errors import OperatorError
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import digest_of, hex_part
from neuron_runtime.contract.store import StoreLocation
from support.addresses import free_port
from support.models import model, record
from support.object_store import CREDENTIALS

STORE = StoreLocation(bucket="artifacts", prefix="team", domain="ns/ml")
REQUEST = record(model()).request
MANIFEST = ArtifactManifest(
    digest=REQUEST.digest,
    request=REQUEST,
    source_commit="c",
    graphs=(),
    files=(),
    tools={},
    timings={},
    created_at="2026-01-01T00:00:00Z",
)


class S3:
    """Answers every request alike, but for keys that are missing."""

    def __init__(self) -> None:
        self.status = 200
        self.body = MANIFEST.to_json()
        self.asked: list[str] = []
        self.missing: set[str] = set()

    def refuse(self, status: int, code: str) -> None:
        self.status = status
        self.body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path in self.missing:
            self.refuse(404, "NoSuchKey")
        return web.Response(status=self.status, body=self.body.encode(), content_type="application/xml")


@pytest.fixture
async def s3(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[S3]:
    s3 = S3()
    application = web.Application()
    application.router.add_get("/{path:.*}", s3.answer)
    async with TestServer(application) as server:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": str(server.make_url(""))}.items():
            monkeypatch.setenv(name, value)
        yield s3


@pytest.fixture
async def artifacts(s3: S3) -> AsyncIterator[S3Artifacts]:
    artifacts = S3Artifacts()
    yield artifacts
    artifacts.close()


ARTIFACT_KEY = f"/artifacts/team/ns/ml/artifacts/{hex_part(REQUEST.digest)}/manifest.json"
SOURCE_KEY = f"/artifacts/team/ns/ml/sources/{hex_part(REQUEST.source_digest)}/manifest.json"


async def test_a_look_up_is_two_small_reads(s3: S3, artifacts: S3Artifacts) -> None:
    assert await artifacts.find(STORE, REQUEST.digest) == MANIFEST
    assert s3.asked == [ARTIFACT_KEY, SOURCE_KEY]


async def test_an_artifact_whose_source_is_gone_is_not_there(s3: S3, artifacts: S3Artifacts) -> None:
    s3.missing.add(SOURCE_KEY)
    assert await artifacts.find(STORE, REQUEST.digest) is None


async def test_a_key_that_is_not_there_is_no_error(s3: S3, artifacts: S3Artifacts) -> None:
    s3.refuse(404, "NoSuchKey")
    assert await artifacts.find(STORE, REQUEST.digest) is None


REFUSALS: dict[str, tuple[int, type[OperatorError]]] = {
    "NoSuchBucket": (404, BucketNotFound),
    "AccessDenied": (403, StoreAccessDenied),
    "ExpiredToken": (400, CredentialsRejected),
    "InvalidToken": (400, CredentialsRejected),
    "InvalidAccessKeyId": (403, CredentialsRejected),
    "SignatureDoesNotMatch": (403, CredentialsRejected),
    "SlowDown": (503, StoreUnreachable),
    "InternalError": (500, StoreUnreachable),
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_what_s3_refuses_has_a_name(s3: S3, artifacts: S3Artifacts, code: str) -> None:
    status, expected = REFUSALS[code]
    s3.refuse(status, code)
    with pytest.raises(expected, match="artifacts") as raised:
        await artifacts.find(STORE, REQUEST.digest)
    assert raised.type is expected


async def test_an_operator_without_credentials(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    artifacts = S3Artifacts()
    with pytest.raises(CredentialsRejected):
        await artifacts.find(STORE, REQUEST.digest)
    artifacts.close()
    assert s3.asked == []


BODIES = {
    "not JSON": "hello",
    "nothing": "",
    "of another form": '{"contractVersion": 2}',
    "larger than any manifest": " " * (4 * 1024 * 1024 + 1),
}


@pytest.mark.parametrize("case", BODIES)
async def test_what_is_no_manifest_is_not_taken_for_a_missing_one(s3: S3, artifacts: S3Artifacts, case: str) -> None:
    s3.body = BODIES[case]
    with pytest.raises(ManifestUnreadable, match=r"s3://artifacts/team/ns/ml/artifacts/.*manifest\.json"):
        await artifacts.find(STORE, REQUEST.digest)


async def test_the_manifest_of_another_artifact_is_not_taken(s3: S3, artifacts: S3Artifacts) -> None:
    with pytest.raises(ManifestUnreadable, match="another artifact"):
        await artifacts.find(STORE, digest_of("other"))


async def test_an_endpoint_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}"}.items():
        monkeypatch.setenv(name, value)
    artifacts = S3Artifacts()
    with pytest.raises(StoreUnreachable, match="s3://artifacts"):
        await artifacts.find(STORE, REQUEST.digest)
    artifacts.close()
