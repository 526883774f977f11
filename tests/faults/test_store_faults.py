"""Whatever S3 does to two writers of one artifact and to its readers: the right bytes, or an error that says what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import aiohttp
import boto3
import botocore.retries.standard
import pytest

from faults.s3_proxy import s3_proxy
from faults.schedule import Schedule
from faults.trials import seeds, tally
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceManifest
from neuron_runtime.contract.store import MANIFEST, StoreLocation
from neuron_runtime.store.files import describe_files, is_intact
from neuron_runtime.store.s3 import Store, open_store
from support.object_store import CREDENTIALS, object_store
from support.scripted_manifest import SCRIPTED_MANIFEST

_BUCKET = "faulty"
_PATIENCE = 60
_READING = frozenset({FailureCode.STORE_UNREACHABLE, FailureCode.STORE_ACCESS_DENIED, FailureCode.ARTIFACT_DAMAGED})
_WRITING = frozenset({*_READING, FailureCode.SOURCE_DAMAGED})

_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("s3"), _BUCKET) as endpoint:
        yield endpoint


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore tries as often as ever, without the pauses between."""
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda *_: 0.0)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


async def test_two_writers_and_their_readers_get_the_right_bytes_or_are_told_what_is_wrong(
    endpoint: str, session: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in seeds(3):
        schedule = Schedule(seed, rate=0.4, budget=40)
        folder = tmp_path / str(seed)
        folder.mkdir()
        async with s3_proxy(endpoint, session, schedule) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
            try:
                await asyncio.to_thread(_trial, f"ns/seed-{seed}", folder, endpoint, schedule)
            except (AssertionError, ContainerFailure) as error:
                raise AssertionError(f"seed {seed}: {error}\ninjected: {'; '.join(schedule.log)}") from error
        tally["trials of the store"] += 1
        tally.update(f"fault: {entry.rpartition(': ')[2]}" for entry in schedule.log)


def _trial(domain: str, folder: Path, endpoint: str, schedule: Schedule) -> None:
    location = StoreLocation(bucket=_BUCKET, domain=domain)
    # Two compilers give different bytes for one digest.
    manifests = [_made(folder / name, name) for name in ("one", "other")]
    with ThreadPoolExecutor(2) as pool:
        writes = [pool.submit(_write, location, manifest, folder / name) for manifest, name in manifests]
        won = [write.result() for write in writes]
    committed = _committed(endpoint, location)
    assert committed in [manifest for manifest, _ in manifests]
    # True says that the own one counts. Who gave up and came again cannot know that the first attempt had done it.
    assert sum(won) <= 1, "both were told that theirs is committed"

    with closing(open_store(location)) as store:
        _until_it_succeeds(lambda: _read(store, committed, folder / "read"), _READING)
        schedule.end()
        assert _committed(endpoint, location) == committed, "there was a second manifest"
        assert _read(store, committed, folder / "read again") == committed


def _made(folder: Path, name: str) -> tuple[ArtifactManifest, str]:
    folder.mkdir()
    (folder / "graph").write_bytes(name.encode() * 4000)
    (folder / "weights").write_bytes(name[::-1].encode() * 50_000)
    return SCRIPTED_MANIFEST.model_copy(update={"files": describe_files(folder), "source_commit": name}), name


def _write(location: StoreLocation, manifest: ArtifactManifest, folder: Path) -> bool:
    """As a compile container, which is started again when it fails."""

    source = SourceManifest(digest=manifest.request.source_digest, repo="a/b", commit="c", files=())

    def put() -> bool:
        store.put_source(source, folder, lambda *_: None)
        return store.put_artifact(manifest, folder, lambda *_: None)

    with closing(open_store(location)) as store:
        return _until_it_succeeds(put, _WRITING)


def _read(store: Store, committed: ArtifactManifest, target: Path) -> ArtifactManifest:
    """As a serving container. What it calls right is right."""
    arrived: list[str] = []
    try:
        manifest = store.fetch_artifact(committed.digest, target, lambda *_: None, arrived=arrived.append)
    finally:
        for file in committed.files:
            if file.path in arrived:
                assert is_intact(target / file.path, file), f"{file.path} was called right and is not"
    assert sorted(arrived) == sorted(file.path for file in committed.files)
    return manifest


def _until_it_succeeds(attempt: Callable[[], _Result], expected: frozenset[FailureCode]) -> _Result:
    for _ in range(_PATIENCE):
        try:
            return attempt()
        except ContainerFailure as failure:
            assert failure.code in expected, f"{failure.code}: {failure.message}"
    raise AssertionError("it never succeeds")


def _committed(endpoint: str, location: StoreLocation) -> ArtifactManifest:
    """What lies in the bucket, by the straight way."""
    client = boto3.session.Session().client("s3", endpoint_url=endpoint)
    try:
        key = location.artifact_prefix(SCRIPTED_MANIFEST.digest) + MANIFEST
        return ArtifactManifest.model_validate(json.loads(client.get_object(Bucket=_BUCKET, Key=key)["Body"].read()))
    finally:
        client.close()
