"""Downloads files from S3 in parallel byte ranges, into place, and verifies them while they arrive.

One connection to S3 is slower than a network, so ranges of all files run on a small pool. What an earlier process of
the pod has left behind is not downloaded again.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import StoredFile

from .body import AnswerBody, BrokenOff
from .failures import error_code, is_absent, store_failure
from .files import CHUNK, Arrived, ByteCount, ignore
from .partial import Part, PartialFile

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# A range costs a request, which takes as much of a processor as a megabyte. But ranges that arrive beside each other
# end together, and what then remains to be hashed is as long as the ranges are.
_SMALLEST_PART = 8 * 1024 * 1024
_LARGEST_PART = 32 * 1024 * 1024
_PARTS = 64
# S3 gives about 90 MB/s to a connection, and the client keeps this many.
_THREADS = 16
_ATTEMPTS = 4


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
        """Where the file grows until it is verified; another content under the same name grows elsewhere."""
        return self.target.with_name(f".{self.target.name}.{self.file.sha256[:16]}.partial")


def download(
    client: "S3Client", bucket: str, wanted: Sequence[Download], count: ByteCount, arrived: Arrived = ignore
) -> None:
    """Download and verify, small files first. A file appears under its name only once its size and hash are right, and
    `arrived` is told then.

    Raises ContainerFailure: `damaged` for a file that is absent or not what its manifest says, or the store's codes.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
    stop = threading.Event()
    try:
        started = [
            _Transfer(client, bucket, item, count, stop).start(pool)
            for item in sorted(wanted, key=lambda item: item.file.size)
        ]
        for transfer in started:
            transfer.finish(pool)
            arrived(transfer.path)
    finally:
        stop.set()
        # Not waiting: a connection that hangs is no reason to stay.
        pool.shutdown(wait=False, cancel_futures=True)


class _Transfer:
    """One file on its way."""

    def __init__(
        self, client: "S3Client", bucket: str, item: Download, count: ByteCount, stop: threading.Event
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._item = item
        self._count = count
        self._stop = stop
        self._partial = PartialFile(item.partial, item.file.size, _part_size(item.file.size))
        self._resumed = self._partial.arrived

    @property
    def path(self) -> str:
        """The file's path in its manifest."""
        return self._item.file.path

    def start(self, pool: ThreadPoolExecutor) -> "_Transfer":
        self._count.add(self._resumed)
        for part in self._partial.parts:
            pool.submit(self._fetch, part)
        return self

    def finish(self, pool: ThreadPoolExecutor) -> None:
        """Wait for the file, verify it, and give it its name."""
        item, found = self._item, self._partial.sha256()
        if found == item.file.sha256:
            self._partial.complete(item.target)
            return
        item.partial.unlink()
        if not self._resumed:
            raise _damaged(item, f"its SHA-256 is {found}, not {item.file.sha256}", self._bucket)
        # The node may have lost what it had not written to its disk yet.
        self._count.add(-item.file.size)
        _Transfer(self._client, self._bucket, item, self._count, self._stop).start(pool).finish(pool)

    def _fetch(self, part: Part) -> None:
        try:
            self._fetch_patiently(part)
        except BaseException as error:
            self._partial.fail(error)

    def _fetch_patiently(self, part: Part) -> None:
        """Fetch the rest of a part. botocore retries requests, but not bodies that break off: that is done here."""
        failures = 0
        while part.position < part.stop and not self._stop.is_set():
            before = part.position
            try:
                self._stream(part)
            except ClientError as error:
                raise _refused(error, self._bucket, self._item) from error
            except (BotoCoreError, BrokenOff) as error:
                failures = 0 if part.position > before else failures + 1
                if failures == _ATTEMPTS:
                    raise store_failure(error, "get", self._bucket, self._item.key) from error
                self._stop.wait(0.2 * 2**failures)

    def _stream(self, part: Part) -> None:
        start, stop = part.position, part.stop
        answer = self._client.get_object(Bucket=self._bucket, Key=self._item.key, Range=f"bytes={start}-{stop - 1}")
        with closing(AnswerBody(answer["Body"])) as body, self._partial.writing(part) as write:
            if answer["ContentLength"] < stop - start:
                end = start + answer["ContentLength"]
                raise _damaged(self._item, f"it ends after {end} of {self._item.file.size} bytes", self._bucket)
            buffer = memoryview(bytearray(min(CHUNK, stop - start)))
            while part.position < stop and not self._stop.is_set():
                # An endpoint that ignores ranges would send more than was asked for: the bound is ours.
                size = body.readinto(buffer[: stop - part.position])
                write(buffer[:size])
                self._count.add(size)


def _part_size(size: int) -> int:
    return max(_SMALLEST_PART, min(size // _PARTS, _LARGEST_PART))


def _refused(error: ClientError, bucket: str, item: Download) -> ContainerFailure:
    if is_absent(error):
        return _damaged(item, "the manifest names it, but it does not exist", bucket)
    if error_code(error) == "InvalidRange":
        return _damaged(item, f"it is shorter than {item.file.size} bytes", bucket)
    return store_failure(error, "get", bucket, item.key)


def _damaged(item: Download, finding: str, bucket: str) -> ContainerFailure:
    return ContainerFailure(item.damaged, f"file {item.file.path} (s3://{bucket}/{item.key}) is damaged: {finding}")
