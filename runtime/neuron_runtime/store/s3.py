"""The store on S3: manifests commit folders of files, and readers believe nothing that they have not hashed.

Endpoint and credentials come from the environment as boto3 takes them (`AWS_ENDPOINT_URL_S3`, Pod Identity, IRSA).
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceManifest, StoredFile
from neuron_runtime.contract.store import MANIFEST, StoreLocation

from .download import Download, download
from .failures import error_code, is_absent, store_failure
from .files import ByteCount, Report, contained, is_intact

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

M = TypeVar("M", ArtifactManifest, SourceManifest)

_UPLOADS = 2
_COMMIT_ATTEMPTS = 3
_LOST = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 5},
    max_pool_connections=16,
    tcp_keepalive=True,
    user_agent_extra="neuron-runtime",
    # S3-compatible stores know no CRC trailers. What guards the content is the manifest's SHA-256.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_TRANSFER = TransferConfig(
    multipart_threshold=64 * 1024 * 1024, multipart_chunksize=16 * 1024 * 1024, max_concurrency=4
)


def open_store(location: StoreLocation) -> "Store":
    """Open the part of a bucket that `location` names. Raises ContainerFailure when no client can be made."""
    try:
        client: S3Client = boto3.session.Session().client("s3", region_name=location.region, config=_CONFIG)
    except (BotoCoreError, ValueError) as error:
        raise store_failure(error, "get", location.bucket, location.prefix) from error
    return Store(client, location)


def everything(_path: str) -> bool:
    """Selects every file of a manifest."""
    return True


class Store:
    """Artifacts and source snapshots of one sharing domain. Every method raises ContainerFailure."""

    def __init__(self, client: "S3Client", location: StoreLocation) -> None:
        self._client = client
        self._location = location

    def read_artifact_manifest(self, digest: Digest) -> ArtifactManifest | None:
        """Manifest of an artifact; None while it is not committed."""
        manifest = self._read(self._location.artifact_prefix(digest), ArtifactManifest)
        if manifest is not None and not manifest.digest == manifest.request.digest == digest:
            raise self._damaged(self._location.artifact_prefix(digest), f"it describes {manifest.digest}")
        return manifest

    def read_source_manifest(self, digest: Digest) -> SourceManifest | None:
        """Manifest of a source snapshot; None while it is not committed."""
        manifest = self._read(self._location.source_prefix(digest), SourceManifest)
        if manifest is not None and manifest.digest != digest:
            raise self._damaged(self._location.source_prefix(digest), f"it describes {manifest.digest}")
        return manifest

    def put_artifact(self, manifest: ArtifactManifest, folder: Path, report: Report) -> bool:
        """Upload `folder`'s files and commit them. False when somebody else had committed: theirs counts then."""
        return self._put(self._location.artifact_prefix(manifest.digest), manifest, folder, report)

    def put_source(self, manifest: SourceManifest, folder: Path, report: Report) -> bool:
        """Upload a source snapshot and commit it. False when somebody else had committed: theirs counts then."""
        return self._put(self._location.source_prefix(manifest.digest), manifest, folder, report)

    def fetch_artifact(
        self, digest: Digest, folder: Path, report: Report, wanted: Callable[[str], bool] = everything
    ) -> ArtifactManifest:
        """Bring an artifact's files into `folder`, each verified; only paths that are `wanted`."""
        manifest = self.read_artifact_manifest(digest)
        if manifest is None:
            raise self._missing("artifact", digest, self._location.artifact_prefix(digest))
        self._fetch(self._location.artifact_prefix(digest), manifest.files, folder, report, wanted)
        return manifest

    def fetch_source(
        self, digest: Digest, folder: Path, report: Report, wanted: Callable[[str], bool] = everything
    ) -> SourceManifest:
        """Bring a source snapshot's files into `folder`, each verified; only paths that are `wanted`."""
        manifest = self.read_source_manifest(digest)
        if manifest is None:
            raise self._missing("source snapshot", digest, self._location.source_prefix(digest))
        self._fetch(self._location.source_prefix(digest), manifest.files, folder, report, wanted)
        return manifest

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(self, prefix: str, kind: type[M]) -> M | None:
        key = prefix + MANIFEST
        try:
            body = self._client.get_object(Bucket=self._location.bucket, Key=key)["Body"].read()
        except (ClientError, BotoCoreError) as error:
            if is_absent(error):
                return None
            raise store_failure(error, "get", self._location.bucket, key) from error
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            raise self._unreadable(prefix, body, error) from error

    def _put(self, prefix: str, manifest: M, folder: Path, report: Report) -> bool:
        if self._read(prefix, type(manifest)) is not None:
            return False
        count = ByteCount(sum(file.size for file in manifest.files), report)
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="s3") as pool:
            uploads = [pool.submit(self._upload, prefix, file, folder, count) for file in manifest.files]
            for upload in uploads:
                upload.result()
        return self._commit(prefix, manifest)

    def _upload(self, prefix: str, file: StoredFile, folder: Path, count: ByteCount) -> None:
        key = self._location.file_key(prefix, file)
        path = contained(folder, file.path)
        try:
            self._client.upload_file(str(path), self._location.bucket, key, Callback=count.add, Config=_TRANSFER)
        except Exception as error:  # s3transfer wraps what botocore raises, in classes of its own
            raise store_failure(_cause(error), "put", self._location.bucket, key) from error

    def _commit(self, prefix: str, manifest: M) -> bool:
        for _ in range(_COMMIT_ATTEMPTS):
            try:
                self._put_manifest(prefix + MANIFEST, manifest.to_json().encode())
            except ClientError as error:
                if error_code(error) not in _LOST:
                    raise store_failure(error, "put", self._location.bucket, prefix + MANIFEST) from error
            except BotoCoreError as error:
                raise store_failure(error, "put", self._location.bucket, prefix + MANIFEST) from error
            else:
                return True
            # Refused, and there: it may be our own, when the first answer was lost and botocore sent it again.
            # Refused, and not there: another conditional put was in flight (409) and failed.
            committed = self._read(prefix, type(manifest))
            if committed is not None:
                return committed == manifest
        raise ContainerFailure(
            FailureCode.STORE_UNREACHABLE, f"S3 refused {_COMMIT_ATTEMPTS} times to commit {self._uri(prefix)}"
        )

    def _put_manifest(self, key: str, body: bytes) -> None:
        self._client.put_object(
            Bucket=self._location.bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*"
        )

    def _fetch(
        self, prefix: str, files: tuple[StoredFile, ...], folder: Path, report: Report, wanted: Callable[[str], bool]
    ) -> None:
        chosen = [
            Download(self._location.file_key(prefix, file), file, contained(folder, file.path))
            for file in files
            if wanted(file.path)
        ]
        missing = [item for item in chosen if not is_intact(item.target, item.file)]
        count = ByteCount(sum(item.file.size for item in chosen), report)
        count.add(sum(item.file.size for item in chosen) - sum(item.file.size for item in missing))
        download(self._client, self._location.bucket, missing, count)

    def _missing(self, what: str, digest: Digest, prefix: str) -> ContainerFailure:
        return ContainerFailure(
            FailureCode.ARTIFACT_MISSING, f"{what} {digest} is not committed: there is no {self._uri(prefix)}"
        )

    def _damaged(self, prefix: str, finding: str) -> ContainerFailure:
        return ContainerFailure(FailureCode.ARTIFACT_DAMAGED, f"{self._uri(prefix)} is damaged: {finding}")

    def _unreadable(self, prefix: str, body: bytes, error: ValidationError) -> ContainerFailure:
        try:
            version = json.loads(body).get("contractVersion")
        except (ValueError, AttributeError):
            return self._damaged(prefix, "it is not a JSON object")
        if version not in (None, 1):
            return ContainerFailure(
                FailureCode.ARTIFACT_INCOMPATIBLE,
                f"{self._uri(prefix)} has contract version {version}; this image reads version 1",
            )
        first = error.errors()[0]
        return self._damaged(prefix, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    def _uri(self, prefix: str) -> str:
        return self._location.uri(prefix + MANIFEST)


def _cause(error: Exception) -> Exception:
    cause = error.__cause__ or error.__context__
    return cause if isinstance(cause, ClientError | BotoCoreError) else error
