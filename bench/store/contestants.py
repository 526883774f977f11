"""What is measured: the runtime's verified pull, boto3's transfer manager, and two bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.s3.transfer import TransferConfig

from neuron_runtime.contract.outcome import FailureCode
from neuron_runtime.contract.source import StoredFile
from neuron_runtime.store.download import Download, download
from neuron_runtime.store.files import ByteCount, sha256_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

Pull = Callable[[Path], None]
"""Brings the object into a folder."""

BUCKET, KEY = "bench", "weights"
RUNTIME, BOTO3 = "runtime", "boto3"
_MIB = 1024 * 1024
_TUNED = TransferConfig(multipart_chunksize=16 * _MIB, max_concurrency=4, io_chunksize=_MIB)


def contestants(client: S3Client, file: StoredFile) -> dict[str, Pull]:
    """By name; all bring the same object with the same client."""

    def runtime(folder: Path) -> None:
        damaged = FailureCode.ARTIFACT_DAMAGED
        wanted = Download(KEY, file.path, file.size, folder / file.path, damaged, sha256=file.sha256)
        download(client, BUCKET, [wanted], ByteCount(file.size, lambda _done, _total: None))

    def boto3(folder: Path) -> None:
        client.download_file(BUCKET, KEY, str(folder / file.path))

    def boto3_tuned(folder: Path) -> None:
        client.download_file(BUCKET, KEY, str(folder / file.path), Config=_TUNED)

    def boto3_verified(folder: Path) -> None:
        boto3(folder)
        assert sha256_of(folder / file.path) == file.sha256

    def discarded(_folder: Path) -> None:
        body = client.get_object(Bucket=BUCKET, Key=KEY)["Body"]
        while body.read(_MIB):
            pass

    def hash_alone(_folder: Path) -> None:
        digest, block = hashlib.sha256(), bytes(_MIB)
        for _ in range(file.size // _MIB):
            digest.update(block)

    return {
        RUNTIME: runtime,
        BOTO3: boto3,
        "boto3, tuned": boto3_tuned,
        "boto3, then hashed": boto3_verified,
        "one connection, discarded": discarded,
        "SHA-256 alone": hash_alone,
    }
