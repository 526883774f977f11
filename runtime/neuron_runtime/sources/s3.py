"""The objects below a prefix of a bucket, each held to the version that was listed.

S3 tells no hash that is always there, so what names an object is its version id and ETag, or the ETag alone where the
bucket keeps no versions. All ranges of a download ask for that very object (`IfMatch`, `VersionId`): what was
overwritten meanwhile is refused by S3. Where an ETag is the content's MD5 it is checked as well.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from neuron_runtime.contract.origin import S3Origin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import POOLING, SourceFile
from neuron_runtime.store.client import open_client
from neuron_runtime.store.download import Download, download
from neuron_runtime.store.failures import SOURCE, is_absent, store_failure
from neuron_runtime.store.files import ByteCount

from .base import may_be_taken, refuse_strange_names
from .content import S3_ETAG, S3_VERSION, md5_of

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_MOST_OBJECTS = 100_000
_MD5 = re.compile(r"[0-9a-f]{32}")
_UNVERSIONED = frozenset({None, "", "null"})


@dataclass(frozen=True)
class _Object:
    """What S3 says of one object."""

    size: int
    etag: str
    version: str | None
    is_encrypted_by_key: bool
    """The ETag of such an object is no MD5 of its content."""

    @property
    def content_id(self) -> str:
        return f"{S3_ETAG}:{self.etag}" if self.version is None else f"{S3_VERSION}:{self.version}:{self.etag}"

    @property
    def md5(self) -> str | None:
        """Of the content, where the ETag is one."""
        return self.etag if _MD5.fullmatch(self.etag) and not self.is_encrypted_by_key else None

    @property
    def pin(self) -> dict[str, str]:
        versioned = {"VersionId": self.version} if self.version is not None else {}
        return {"IfMatch": f'"{self.etag}"', **versioned}


class S3Source:
    """The folder of a bucket. Raises ContainerFailure when no client can be made."""

    def __init__(self, origin: S3Origin) -> None:
        self._bucket = origin.bucket
        self._prefix = f"{origin.prefix.strip('/')}/" if origin.prefix.strip("/") else ""
        self._client: S3Client = open_client(origin.bucket, self._prefix, origin.region, SOURCE)
        self._objects = dict[str, _Object]()

    @property
    def name(self) -> str:
        """The `s3://` form."""
        return f"s3://{self._bucket}/{self._prefix}"

    @property
    def commit(self) -> str:
        """There are none."""
        return ""

    def files(self) -> tuple[SourceFile, ...]:
        """The objects directly below the prefix, by their names there."""
        paths = [path for path in self._list() if may_be_taken(path)]
        refuse_strange_names(paths, self.name)
        self._objects = {path: self._head(path) for path in paths}
        return tuple(
            SourceFile(path=path, size=object_.size, content_id=object_.content_id)
            for path, object_ in self._objects.items()
        )

    def bring(self, file: SourceFile, target: Path, count: ByteCount) -> None:
        """Download an object, in ranges of the version that was listed."""
        object_ = self._objects[file.path]
        wanted = Download(
            self._prefix + file.path,
            file.path,
            file.size,
            target,
            FailureCode.SOURCE_CHANGED,
            pin=object_.pin,
            owner=SOURCE,
        )
        download(self._client, self._bucket, [wanted], count)
        if object_.md5 is not None and md5_of(target) != object_.md5:
            target.unlink()
            raise self._changed(file.path, f"what arrived has not the MD5 {object_.md5}, which is its ETag")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _list(self) -> list[str]:
        """Paths of the objects directly below the prefix, and of those that say how vectors are made."""
        paths, folders = self._list_folder("")
        pooling = PurePosixPath(POOLING).parent.as_posix() + "/"
        # Asking for it by a HEAD could be refused: without the right to list, S3 does not tell what is not there.
        return paths + (self._list_folder(pooling)[0] if pooling in folders else [])

    def _list_folder(self, folder: str) -> tuple[list[str], set[str]]:
        prefix = self._prefix + folder
        paths, folders = list[str](), set[str]()
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        try:
            for page in pages:
                paths += [entry["Key"][len(self._prefix) :] for entry in page.get("Contents", ())]
                folders |= {entry["Prefix"][len(self._prefix) :] for entry in page.get("CommonPrefixes", ())}
                if len(paths) + len(folders) > _MOST_OBJECTS:
                    raise ContainerFailure(
                        FailureCode.SOURCE_NOT_FOUND,
                        f"{self.name} has more than {_MOST_OBJECTS} objects directly below it; spec.model.s3.uri names "
                        "no folder of a model",
                    )
        except (ClientError, BotoCoreError) as error:
            raise store_failure(error, "list", self._bucket, prefix, SOURCE) from error
        return paths, folders

    def _head(self, path: str) -> _Object:
        """What S3 says of an object."""
        key = self._prefix + path
        try:
            head: Any = self._client.head_object(Bucket=self._bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            if is_absent(error):
                raise self._changed(path, "it was listed, but it does not exist") from error
            raise store_failure(error, "get", self._bucket, key, SOURCE) from error
        etag = head.get("ETag", "").strip('"')
        if not etag:
            raise ContainerFailure(
                FailureCode.SOURCE_UNREACHABLE, f"the endpoint names no ETag of {self.name}{path}, as S3 does"
            )
        version = head.get("VersionId")
        return _Object(
            size=head["ContentLength"],
            etag=etag,
            version=None if version in _UNVERSIONED else version,
            is_encrypted_by_key="SSECustomerAlgorithm" in head
            or str(head.get("ServerSideEncryption", "")).startswith("aws:kms"),
        )

    def _changed(self, path: str, finding: str) -> ContainerFailure:
        return ContainerFailure(FailureCode.SOURCE_CHANGED, f"file {path} ({self.name}{path}) has changed: {finding}")
