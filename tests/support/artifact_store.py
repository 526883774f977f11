"""What the compile container and people do in the bucket that the operator looks artifacts up in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuron_operator.model.revision import SHARED_DOMAIN, namespace_domain
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Shapes, Target
from neuron_runtime.contract.source import SourceManifest, StoredFile
from neuron_runtime.contract.store import MANIFEST, StoreLocation
from support.models import SETTINGS

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "artifacts"


class ArtifactStore:
    """The part of the bucket that belongs to one namespace, or to a prefix that namespaces share."""

    def __init__(self, s3: S3Client, namespace: str, source: Digest, *, shared_prefix: str | None = None) -> None:
        self._s3 = s3
        self.request = CompileRequest(
            engine=Engine.CPU,
            toolchain=SETTINGS.cpu.toolchain,
            source_digest=source,
            shapes=Shapes(
                max_model_length=512, max_batch_size=4, context_lengths=(64,), token_generation_batches=(1, 4, 12)
            ),
            dtype=DType.FLOAT32,
            target=Target.CPU,
        )
        location = StoreLocation(bucket=BUCKET, domain=namespace_domain(namespace))
        if shared_prefix is not None:
            location = StoreLocation(bucket=BUCKET, prefix=shared_prefix, domain=SHARED_DOMAIN)
        self.key = location.artifact_prefix(self.request.digest) + MANIFEST
        self._source_key = location.source_prefix(source) + MANIFEST

    def put(self) -> None:
        """Commit the artifact that the smallest model asks for, and its source."""
        source = SourceManifest(digest=self.request.source_digest, repo="a/b", commit="c" * 40, files=())
        self._s3.put_object(Bucket=BUCKET, Key=self._source_key, Body=source.to_json().encode())
        manifest = ArtifactManifest(
            digest=self.request.digest,
            request=self.request,
            source_commit="c" * 40,
            graphs=(),
            files=(StoredFile(path="a", size=3, sha256="0" * 64), StoredFile(path="b", size=4, sha256="0" * 64)),
            tools={},
            timings={},
            created_at="2026-01-01T00:00:00Z",
        )
        self._s3.put_object(Bucket=BUCKET, Key=self.key, Body=manifest.to_json().encode())

    def damage(self) -> None:
        """Leave something else where the manifest belongs."""
        self._s3.put_object(Bucket=BUCKET, Key=self.key, Body=b"oops")

    def delete(self) -> None:
        """Take the artifact away."""
        self._s3.delete_object(Bucket=BUCKET, Key=self.key)

    def delete_source(self) -> None:
        """Take the source away that the artifact was made from."""
        self._s3.delete_object(Bucket=BUCKET, Key=self._source_key)
