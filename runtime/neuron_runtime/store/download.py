"""Downloads files in parallel byte ranges and hashes them while they arrive.

One thread's Python is slower than the network, so ranges of all files run on a small pool. SHA-256 has to be taken in
order: the calling thread follows the finished ranges and hashes them out of the page cache, so that hashing overlaps
the transfer and no range is held in memory.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import StoredFile

from .failures import error_code, is_absent, store_failure
from .files import CHUNK, ByteCount

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_PART = 16 * 1024 * 1024
_THREADS = 4
_ATTEMPTS = 4
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Download:
    """One file: where it lies in the bucket, and where it goes."""

    key: str
    file: StoredFile
    target: Path
    damaged: FailureCode
    """Code of the failure when it is not what its manifest says."""

    @property
    def partial(self) -> Path:
        """Where the file grows until it is verified."""
        return self.target.with_name(self.target.name + _PARTIAL)


def download(client: "S3Client", bucket: str, wanted: Sequence[Download], count: ByteCount) -> None:
    """Download and verify. A file appears under its name only once its size and hash are right.

    Raises ContainerFailure: `damaged` for a file that is absent or not what its manifest says, or the store's codes.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
    try:
        started = [(item, _start(pool, client, bucket, item, count)) for item in wanted]
        for item, parts in started:
            _finish(item, parts, bucket)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(
    pool: ThreadPoolExecutor, client: "S3Client", bucket: str, item: Download, count: ByteCount
) -> list["Future[None]"]:
    item.partial.parent.mkdir(parents=True, exist_ok=True)
    with item.partial.open("wb") as file:
        file.truncate(item.file.size)
    return [
        pool.submit(_fetch_part, client, bucket, item, start, stop, count) for start, stop in _ranges(item.file.size)
    ]


def _ranges(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, _PART):
        yield start, min(start + _PART, size)


def _fetch_part(client: "S3Client", bucket: str, item: Download, start: int, stop: int, count: ByteCount) -> None:
    """Fetch bytes [start, stop). botocore retries requests, but not bodies that break off: that is done here."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _stream(client, bucket, item, start, stop, count)
            return
        except ClientError as error:
            raise _refused(error, bucket, item) from error
        except BotoCoreError as error:
            if attempt == _ATTEMPTS:
                raise store_failure(error, "get", bucket, item.key) from error
            time.sleep(0.2 * 2**attempt)


def _stream(client: "S3Client", bucket: str, item: Download, start: int, stop: int, count: ByteCount) -> None:
    answer = client.get_object(Bucket=bucket, Key=item.key, Range=f"bytes={start}-{stop - 1}")
    buffer = memoryview(bytearray(min(CHUNK, stop - start)))
    position = start
    descriptor = os.open(item.partial, os.O_WRONLY)
    try:
        # Not `with answer["Body"]`: that enters urllib3's stream below, whose errors botocore has not translated.
        with closing(answer["Body"]) as body:
            # An endpoint that ignores ranges would send more than was asked for: the bound is ours.
            # (The stub takes readinto's buffer for a file.)
            while position < stop and (size := body.readinto(buffer[: stop - position])):  # type: ignore[arg-type]
                os.pwrite(descriptor, buffer[:size], position)
                position += size
                count.add(size)
    except BaseException:
        count.add(start - position)
        raise
    finally:
        os.close(descriptor)
    if position < stop:
        raise _damaged(item, f"it ends after {position} of {item.file.size} bytes", bucket)


def _finish(item: Download, parts: Sequence["Future[None]"], bucket: str) -> None:
    """Follow the file's ranges in order, hash them, and give the file its name."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    with item.partial.open("rb", buffering=0) as file:
        for part, (start, stop) in zip(parts, _ranges(item.file.size), strict=True):
            part.result()
            position = start
            while position < stop:
                size = file.readinto(buffer[: stop - position])
                digest.update(buffer[:size])
                position += size
    if digest.hexdigest() != item.file.sha256:
        item.partial.unlink()
        raise _damaged(item, f"its SHA-256 is {digest.hexdigest()}, not {item.file.sha256}", bucket)
    item.partial.replace(item.target)


def _refused(error: ClientError, bucket: str, item: Download) -> ContainerFailure:
    if is_absent(error):
        return _damaged(item, "the manifest names it, but it does not exist", bucket)
    if error_code(error) == "InvalidRange":
        return _damaged(item, f"it is shorter than {item.file.size} bytes", bucket)
    return store_failure(error, "get", bucket, item.key)


def _damaged(item: Download, finding: str, bucket: str) -> ContainerFailure:
    return ContainerFailure(item.damaged, f"file {item.file.path} (s3://{bucket}/{item.key}) is damaged: {finding}")
