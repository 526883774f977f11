"""Looks compiled artifacts up in S3: small GETs of the manifests that commit an artifact and its source.

boto3 is synchronous, so calls run in a small thread pool of their own: a slow bucket must not use up the threads that
others need.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)
from pydantic import ValidationError

from neuron_operator.errors import OperatorError
from neuron_operator.turns import NoTurn, Turns
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.store import MANIFEST, StoreLocation

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_THREADS = 8
# Tenants own the bucket; what lies in it must not fill our memory.
_MANIFEST_LIMIT = 4 * 1024 * 1024
# AWS has fewer regions, but a model may name any; a client takes about a megabyte.
_CLIENTS = 64
_CREDENTIAL_CODES = frozenset({"ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=_THREADS,
    user_agent_extra="neuron-operator",
)


class StoreAccessDenied(OperatorError):
    """The operator may not read the bucket."""


class CredentialsRejected(StoreAccessDenied):
    """The operator has no AWS credentials, or S3 does not take them."""


class BucketNotFound(OperatorError):
    """The bucket does not exist."""


class ManifestUnreadable(OperatorError):
    """Something lies where the artifact's manifest belongs that this release cannot read as that."""


class StoreUnreachable(OperatorError):
    """S3 did not answer, or asked to slow down."""


class S3Artifacts:
    """Artifacts in S3. Endpoint and credentials come from the environment, as boto3 takes them."""

    def __init__(self) -> None:
        self._turns = Turns(_THREADS)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
        # Sessions are not thread-safe, clients are: clients are made here, on the caller's thread.
        self._session = boto3.session.Session()
        self._clients: dict[str | None, S3Client] = {}

    async def find(self, store: StoreLocation, digest: Digest) -> ArtifactManifest | None:
        """Manifest of an artifact; None when it, or the source that servers read beside it, is not there.

        Raises StoreAccessDenied, BucketNotFound, ManifestUnreadable or StoreUnreachable.
        """
        try:
            async with self._turns.take():
                return await self._find(store, digest)
        except NoTurn as error:
            raise StoreUnreachable("S3 is slow to answer for other models") from error

    async def _find(self, store: StoreLocation, digest: Digest) -> ArtifactManifest | None:
        client = self._client(store.region)
        loop = asyncio.get_running_loop()

        async def read(prefix: str) -> bytes | None:
            return await loop.run_in_executor(self._executor, _read, client, store.bucket, prefix + MANIFEST)

        body = await read(store.artifact_prefix(digest))
        if body is None:
            return None
        manifest = _parse(body, store, digest)
        # Without its source, whose absence only a compile Job can mend, an artifact cannot be served.
        source = await read(store.source_prefix(manifest.request.source_digest))
        return manifest if source is not None else None

    def close(self) -> None:
        """Stop the threads; calls in flight run to their timeout."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _client(self, region: str | None) -> "S3Client":
        if region not in self._clients:
            if len(self._clients) >= _CLIENTS:
                del self._clients[next(iter(self._clients))]
            self._clients[region] = self._session.client("s3", region_name=region, config=_CONFIG)
        return self._clients[region]


def _parse(body: bytes, store: StoreLocation, digest: Digest) -> ArtifactManifest:
    uri = store.uri(store.artifact_prefix(digest) + MANIFEST)
    if len(body) > _MANIFEST_LIMIT:
        raise ManifestUnreadable(f"{uri} is larger than {_MANIFEST_LIMIT} bytes")
    try:
        manifest = ArtifactManifest.model_validate_json(body)
    except ValidationError as error:
        raise ManifestUnreadable(f"{uri} is not a manifest that this release of the operator reads") from error
    if manifest.digest != digest:
        raise ManifestUnreadable(f"{uri} is the manifest of another artifact, {manifest.digest}")
    return manifest


def _read(client: "S3Client", bucket: str, key: str) -> bytes | None:
    try:
        return client.get_object(Bucket=bucket, Key=key)["Body"].read(_MANIFEST_LIMIT + 1)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("NoSuchKey", "404"):
            return None
        if code == "NoSuchBucket":
            raise BucketNotFound(f"bucket {bucket} does not exist") from error
        # Credentials of a web identity are fetched by the same call, from STS.
        if code in _CREDENTIAL_CODES or error.operation_name != "GetObject":
            raise CredentialsRejected(
                f"the operator's AWS credentials are not accepted for {bucket} ({code})"
            ) from error
        if code in ("AccessDenied", "403"):
            raise StoreAccessDenied(
                f"the operator may not read s3://{bucket}/{key} ({code}); S3 also answers so for a key that is "
                "missing when s3:ListBucket is not granted"
            ) from error
        raise StoreUnreachable(f"S3 answered {code} for s3://{bucket}/{key}") from error
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
        raise CredentialsRejected(f"the operator has no AWS credentials for {bucket}: {error}") from error
    except BotoCoreError as error:
        raise StoreUnreachable(f"s3://{bucket} cannot be read: {error}") from error
