"""The store on S3: manifests commit folders of files, and readers believe nothing that they have not hashed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceManifest, StoredFile
from neuron_runtime.contract.store import StoreLocation

from .client import open_client
from .download import Download, download
from .failures import error_code, is_absent, store_failure
from .files import Arrived, ByteCount, Report, contained, ignore, is_intact
from .place import M, Place

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_UPLOADS = 2
_COMMIT_ATTEMPTS = 3
_LOST = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_TRANSFER = TransferConfig(
    multipart_threshold=64 * 1024 * 1024, multipart_chunksize=16 * 1024 * 1024, max_concurrency=4
)


def open_store(location: StoreLocation) -> "Store":
    """Open the part of a bucket that `location` names. Raises ContainerFailure when no client can be made."""
    client = open_client(location.bucket, location.prefix, location.region)
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
        place = self._artifact(digest)
        manifest = self._read(place)
        if manifest is not None and not manifest.digest == manifest.request.digest == digest:
            raise place.damaged(f"it describes {manifest.digest}")
        return manifest

    def read_source_manifest(self, digest: Digest) -> SourceManifest | None:
        """Manifest of a source snapshot; None while it is not committed."""
        place = self._source(digest)
        manifest = self._read(place)
        if manifest is not None and manifest.digest != digest:
            raise place.damaged(f"it describes {manifest.digest}")
        return manifest

    def put_artifact(self, manifest: ArtifactManifest, folder: Path, report: Report) -> bool:
        """Upload `folder`'s files and commit them. False when somebody else had committed: theirs counts then."""
        return self._put(self._artifact(manifest.digest), manifest, folder, report)

    def put_source(self, manifest: SourceManifest, folder: Path, report: Report) -> bool:
        """Upload a source snapshot and commit it. False when somebody else had committed: theirs counts then."""
        return self._put(self._source(manifest.digest), manifest, folder, report)

    def replace_source(self, manifest: SourceManifest, folder: Path, report: Report) -> None:
        """Upload a source snapshot over one that is committed, but damaged."""
        place = self._source(manifest.digest)
        self._upload_all(place, manifest, folder, report)
        try:
            self._client.put_object(Bucket=self._location.bucket, Key=place.key, **_document(manifest))
        except (ClientError, BotoCoreError) as error:
            raise store_failure(error, "put", self._location.bucket, place.key) from error

    def fetch_artifact(
        self,
        digest: Digest,
        folder: Path,
        report: Report,
        check: Callable[[ArtifactManifest], None] = lambda _manifest: None,
        arrived: Arrived = ignore,
    ) -> ArtifactManifest:
        """Bring an artifact's files into `folder`, each verified, unless `check` of its manifest raises.

        Small files come first: machine code can be loaded while weights are still on their way.
        """
        manifest = self.read_artifact_manifest(digest)
        if manifest is None:
            raise self._artifact(digest).missing()
        check(manifest)
        self._fetch(self._artifact(digest), manifest.files, folder, report, everything, arrived)
        return manifest

    def fetch_source(
        self, digest: Digest, folder: Path, report: Report, wanted: Callable[[str], bool] = everything
    ) -> SourceManifest:
        """Bring a source snapshot's files into `folder`, each verified; only paths that are `wanted`."""
        manifest = self.read_source_manifest(digest)
        if manifest is None:
            raise self._source(digest).missing()
        self._fetch(self._source(digest), manifest.files, folder, report, wanted)
        return manifest

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _artifact(self, digest: Digest) -> Place[ArtifactManifest]:
        return Place(
            "artifact",
            digest,
            self._location,
            self._location.artifact_prefix(digest),
            ArtifactManifest,
            FailureCode.ARTIFACT_MISSING,
            FailureCode.ARTIFACT_DAMAGED,
        )

    def _source(self, digest: Digest) -> Place[SourceManifest]:
        return Place(
            "source snapshot",
            digest,
            self._location,
            self._location.source_prefix(digest),
            SourceManifest,
            FailureCode.SOURCE_MISSING,
            FailureCode.SOURCE_DAMAGED,
        )

    def _read(self, place: Place[M]) -> M | None:
        try:
            body = self._client.get_object(Bucket=self._location.bucket, Key=place.key)["Body"].read()
        except (ClientError, BotoCoreError) as error:
            if is_absent(error):
                return None
            raise store_failure(error, "get", self._location.bucket, place.key) from error
        return place.parse(body)

    def _put(self, place: Place[M], manifest: M, folder: Path, report: Report) -> bool:
        if self._read(place) is not None:
            return False
        self._upload_all(place, manifest, folder, report)
        return self._commit(place, manifest)

    def _upload_all(self, place: Place[M], manifest: M, folder: Path, report: Report) -> None:
        count = ByteCount(sum(file.size for file in manifest.files), report)
        pool = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="s3")
        try:
            uploads = [pool.submit(self._upload, place.prefix, file, folder, count) for file in manifest.files]
            for upload in uploads:
                upload.result()
        finally:
            # Not waiting: after a failure or SIGTERM, gigabytes that are under way are no reason to stay.
            pool.shutdown(wait=False, cancel_futures=True)

    def _upload(self, prefix: str, file: StoredFile, folder: Path, count: ByteCount) -> None:
        key = self._location.file_key(prefix, file)
        path = contained(folder, file.path)
        try:
            self._client.upload_file(str(path), self._location.bucket, key, Callback=count.add, Config=_TRANSFER)
        except (Boto3Error, BotoCoreError, ClientError) as error:  # boto3 wraps some of what botocore raises
            raise store_failure(_cause(error), "put", self._location.bucket, key) from error

    def _commit(self, place: Place[M], manifest: M) -> bool:
        for _ in range(_COMMIT_ATTEMPTS):
            try:
                self._client.put_object(
                    Bucket=self._location.bucket, Key=place.key, IfNoneMatch="*", **_document(manifest)
                )
            except ClientError as error:
                if error_code(error) not in _LOST:
                    raise store_failure(error, "put", self._location.bucket, place.key) from error
            except BotoCoreError as error:
                raise store_failure(error, "put", self._location.bucket, place.key) from error
            else:
                return True
            # Refused, and there: it may be our own, when the first answer was lost and botocore sent it again.
            # Refused, and not there: another conditional put was in flight (409) and failed.
            committed = self._read(place)
            if committed is not None:
                return committed == manifest
        raise ContainerFailure(
            FailureCode.STORE_UNREACHABLE, f"S3 refused {_COMMIT_ATTEMPTS} times to commit {place.uri}"
        )

    def _fetch(
        self,
        place: Place[M],
        files: tuple[StoredFile, ...],
        folder: Path,
        report: Report,
        wanted: Callable[[str], bool],
        arrived: Arrived = ignore,
    ) -> None:
        chosen = [
            (
                file,
                Download(
                    self._location.file_key(place.prefix, file),
                    file.path,
                    file.size,
                    contained(folder, file.path, place.damaged_code),
                    place.damaged_code,
                    sha256=file.sha256,
                ),
            )
            for file in sorted(files, key=lambda file: file.size)
            if wanted(file.path)
        ]
        count = ByteCount(sum(file.size for file, _ in chosen), report)
        missing = list[Download]()
        for file, item in chosen:
            if not is_intact(item.target, file):
                missing.append(item)
                continue
            count.add(file.size)
            arrived(file.path)
        download(self._client, self._location.bucket, missing, count, arrived)


class _Document(TypedDict):
    Body: bytes
    ContentType: str


def _document(manifest: ArtifactManifest | SourceManifest) -> _Document:
    """A manifest as arguments of `put_object`."""
    return {"Body": manifest.to_json().encode(), "ContentType": "application/json"}


def _cause(error: Exception) -> Exception:
    cause = error.__cause__ or error.__context__
    return cause if isinstance(cause, ClientError | BotoCoreError) else error
