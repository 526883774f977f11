from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from neuron_localcluster import ports, proc
from neuron_localcluster.processes import ProcessSpec, ProcessTable
from neuron_localcluster.standins import aws

BUCKET = "artifacts"


class Stack:
    """ministack with its data in a folder."""

    def __init__(self, folder: Path) -> None:
        self._port = ports.assign(["aws"], {})["aws"]
        self._folder = folder
        self._processes = ProcessTable(str(folder), folder / "run", folder / "logs")
        self.endpoint = f"http://{aws.ADDRESS}:{self._port}"

    def start(self) -> None:
        environment = aws.environment(self._folder / "aws", self._port)
        self._processes.start(ProcessSpec("aws", aws.command(), environment))
        self._processes.wait_until("aws", lambda: aws.is_ready(self._port), 60)

    @property
    def bytes_read(self) -> int:
        """What the process has read so far, from files and connections."""
        process = self._processes.find("aws")
        assert process is not None
        lines = Path(f"/proc/{process.pid}/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    def kill(self) -> None:
        process = self._processes.find("aws")
        assert process is not None
        proc.signal_process(process, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        self._processes.stop(["aws"])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack.start()
    aws.ensure_bucket(stack.endpoint, BUCKET)
    yield stack
    stack.stop()


def test_is_not_ready_where_nothing_listens() -> None:
    assert not aws.is_ready(ports.assign(["aws"], {})["aws"])


def test_a_bucket_that_is_there_is_kept(stack: Stack) -> None:
    s3 = aws.s3_client(stack.endpoint)
    s3.put_object(Bucket=BUCKET, Key="kept", Body=b"1")

    aws.ensure_bucket(stack.endpoint, BUCKET)

    assert s3.head_object(Bucket=BUCKET, Key="kept")["ContentLength"] == 1


def test_second_conditional_put_is_refused(stack: Stack) -> None:
    s3 = aws.s3_client(stack.endpoint)
    s3.put_object(Bucket=BUCKET, Key="manifest.json", Body=b"first", IfNoneMatch="*")

    with pytest.raises(ClientError) as refusal:
        s3.put_object(Bucket=BUCKET, Key="manifest.json", Body=b"second", IfNoneMatch="*")

    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert s3.get_object(Bucket=BUCKET, Key="manifest.json")["Body"].read() == b"first"


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_objects_outlive_the_process(stack: Stack, ending: str) -> None:
    content = bytes(range(256)) * 1024
    aws.s3_client(stack.endpoint).put_object(Bucket=BUCKET, Key=f"weights/{ending}", Body=content)

    getattr(stack, ending)()
    stack.start()

    s3 = aws.s3_client(stack.endpoint)
    answer = s3.get_object(Bucket=BUCKET, Key=f"weights/{ending}", Range="bytes=1000-1999")
    assert answer["Body"].read() == content[1000:2000]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket=BUCKET, Key=f"weights/{ending}", Body=b"", IfNoneMatch="*")


def test_a_range_is_read_without_the_rest_of_the_object(stack: Stack) -> None:
    s3 = aws.s3_client(stack.endpoint)
    s3.put_object(Bucket=BUCKET, Key="large", Body=bytes(8 << 20))
    before = stack.bytes_read

    answer = s3.get_object(Bucket=BUCKET, Key="large", Range="bytes=5000000-5000099")

    assert answer["Body"].read() == bytes(100)
    assert answer["ContentRange"] == f"bytes 5000000-5000099/{8 << 20}"
    assert stack.bytes_read - before < 1 << 20


def test_an_empty_object_has_no_ranges(stack: Stack) -> None:
    s3 = aws.s3_client(stack.endpoint)
    s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")

    with pytest.raises(ClientError, match="InvalidRange"):
        s3.get_object(Bucket=BUCKET, Key="empty", Range="bytes=0-0")
    assert s3.get_object(Bucket=BUCKET, Key="empty")["Body"].read() == b""
