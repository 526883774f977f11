"""Downloads files from S3 in parallel byte ranges, into place, and verifies them while they arrive.

One connection to S3 is slower than a network, so ranges of all files run on a small pool. What an earlier process of
the pod has left behind is not downloaded again.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from neuron_runtime.contract.digests import digest_of, short
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

from .body import AnswerBody, BrokenOff
from .failures import STORE, Owner, error_code, is_absent, store_failure
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
_OVERWRITTEN = frozenset({"PreconditionFailed", "412"})


@dataclass(frozen=True)
class Download:
    """One file: where it lies in the bucket, and where it goes."""

    key: str
    path: str
    """What it is called in its manifest, or in its source."""
    size: int
    target: Path
    damaged: FailureCode
    """Code of the failure when it is not what its manifest says, or what was listed."""
    sha256: str | None = None
    """Hexadecimal; None where nobody has hashed the object. What arrives is one object all the same, if `pin` says
    which."""
    pin: Mapping[str, str] = field(default_factory=dict)
    """Arguments of `get_object` that hold all ranges to one version of the object (`IfMatch`, `VersionId`)."""
    owner: Owner = STORE

    @property
    def partial(self) -> Path:
        """Where the file grows until it is verified; another content under the same name grows elsewhere."""
        name = self.sha256[:16] if self.sha256 is not None else short(digest_of([self.key, dict(self.pin)]), 16)
        return self.target.with_name(f".{self.target.name}.{name}.partial")


def download(
    client: "S3Client", bucket: str, wanted: Sequence[Download], count: ByteCount, arrived: Arrived = ignore
) -> None:
    """Download and verify, small files first. A file appears under its name only once its size and hash are right, and
    `arrived` is told then.

    Raises ContainerFailure: `damaged` for a file that is absent or not what its manifest says, or the owner's codes.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
    stop = threading.Event()
    try:
        started = [
            _Transfer(client, bucket, item, count, stop).start(pool)
            for item in sorted(wanted, key=lambda item: item.size)
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
        self._partial = PartialFile(item.partial, item.size, _part_size(item.size))
        self._resumed = self._partial.arrived

    @property
    def path(self) -> str:
        """The file's path in its manifest."""
        return self._item.path

    def start(self, pool: ThreadPoolExecutor) -> "_Transfer":
        self._count.add(self._resumed)
        for part in self._partial.parts:
            pool.submit(self._fetch, part)
        return self

    def finish(self, pool: ThreadPoolExecutor) -> None:
        """Wait for the file, verify it, and give it its name."""
        item, found = self._item, self._partial.sha256()
        if item.sha256 is None or found == item.sha256:
            self._partial.complete(item.target)
            return
        item.partial.unlink()
        if not self._resumed:
            raise _damaged(item, f"its SHA-256 is {found}, not {item.sha256}", self._bucket)
        # The node may have lost what it had not written to its disk yet.
        self._count.add(-item.size)
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
                    raise store_failure(error, "get", self._bucket, self._item.key, self._item.owner) from error
                self._stop.wait(0.2 * 2**failures)

    def _stream(self, part: Part) -> None:
        start, stop = part.position, part.stop
        item = self._item
        wanted = {"Bucket": self._bucket, "Key": item.key, "Range": f"bytes={start}-{stop - 1}", **item.pin}
        answer = self._client.get_object(**wanted)  # type: ignore[arg-type]
        with closing(AnswerBody(answer["Body"])) as body, self._partial.writing(part) as write:
            if answer["ContentLength"] < stop - start:
                end = start + answer["ContentLength"]
                raise _damaged(item, f"it ends after {end} of {item.size} bytes", self._bucket)
            buffer = memoryview(bytearray(min(CHUNK, stop - start)))
            # Some endpoints answer the whole object to who asks for a part of a version.
            self._skip(body, 0 if "ContentRange" in answer else start, buffer)
            while part.position < stop and not self._stop.is_set():
                # They would send more than was asked for: the bound is ours.
                size = body.readinto(buffer[: stop - part.position])
                write(buffer[:size])
                self._count.add(size)

    def _skip(self, body: AnswerBody, size: int, buffer: memoryview) -> None:
        while size > 0 and not self._stop.is_set():
            size -= body.readinto(buffer[:size])


def _part_size(size: int) -> int:
    return max(_SMALLEST_PART, min(size // _PARTS, _LARGEST_PART))


def _refused(error: ClientError, bucket: str, item: Download) -> ContainerFailure:
    if is_absent(error) or error_code(error) == "NoSuchVersion":
        lister = "the manifest names it" if item.sha256 is not None else "it was listed"
        return _damaged(item, f"{lister}, but it does not exist", bucket)
    if error_code(error) in _OVERWRITTEN:
        return _damaged(item, "it was overwritten after it was listed", bucket)
    if error_code(error) == "InvalidRange":
        return _damaged(item, f"it is shorter than {item.size} bytes", bucket)
    return store_failure(error, "get", bucket, item.key, item.owner)


def _damaged(item: Download, finding: str, bucket: str) -> ContainerFailure:
    word = "has changed" if item.damaged is FailureCode.SOURCE_CHANGED else "is damaged"
    return ContainerFailure(item.damaged, f"file {item.path} (s3://{bucket}/{item.key}) {word}: {finding}")
