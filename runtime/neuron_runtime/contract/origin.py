"""Where a model's source lies, pinned: what the compile Job reads, and what a revision's record keeps.

Every source is copied into the artifact store by the compile Job, and servers read the copy alone: a claim that one
node at a time may mount needs no second mount, serving pods need no right on a foreign bucket, and what happens to the
origin afterwards changes nothing.

Which Secret holds a token is no part of an origin: a token may move while what was pinned stays (`SecretKey`).
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .digests import ContractModel

Bounded = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Text that is told again in a termination message, whose length is limited."""

FolderPath = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A folder, with forward slashes; S3 allows a key no more than 1024 bytes."""


class HuggingFaceOrigin(ContractModel):
    """A repository of a Hugging Face hub at one commit."""

    kind: Literal["HuggingFace"] = "HuggingFace"
    repo: Bounded
    commit: Bounded
    endpoint: Bounded | None = None
    """The hub's address, for example `https://hub.example.com`. Where it is absent `HF_ENDPOINT` in the environment
    holds, and without that the public hub; where it is present it wins over `HF_ENDPOINT`."""

    @property
    def location(self) -> str:
        """What a snapshot's manifest says of where it came from, for people."""
        return self.repo


class S3Origin(ContractModel):
    """The objects directly below a prefix of a bucket. Which of their versions is in the source digest.

    Credentials and endpoint come from the environment, as for the store. Reading needs `s3:ListBucket` on the bucket
    and `s3:GetObject` (and `s3:GetObjectVersion` where it is versioned) below the prefix.
    """

    kind: Literal["S3"] = "S3"
    bucket: Bounded
    prefix: FolderPath = ""
    """With or without a slash at its end; empty for the bucket itself."""
    region: Bounded | None = None

    @property
    def commit(self) -> str:
        """Objects have no commit: their versions are in the source digest."""
        return ""

    @property
    def location(self) -> str:
        """The `s3://` form, for people."""
        return f"s3://{self.bucket}/{self.prefix}"


class VolumeOrigin(ContractModel):
    """A folder of a PersistentVolumeClaim that is mounted, read-only, at `NEURON_SOURCE_DIR`."""

    kind: Literal["PersistentVolumeClaim"] = "PersistentVolumeClaim"
    claim_name: Bounded
    """For messages alone: what is read is what is mounted."""
    path: FolderPath = ""
    """Below the claim's root, relative, without `..`; empty for the root."""

    @property
    def commit(self) -> str:
        """Files have no commit: their hashes are in the source digest."""
        return ""

    @property
    def location(self) -> str:
        """Claim and folder, for people."""
        return f"pvc://{self.claim_name}/{self.path}"


Origin = Annotated[HuggingFaceOrigin | S3Origin | VolumeOrigin, Field(discriminator="kind")]
"""Told apart by `kind`."""


class SecretKey(ContractModel):
    """The key of the Secret that has a token, for messages alone.

    The token itself comes in the file that `HF_TOKEN_PATH` names, on an optional volume of the Secret. A document that
    has a SecretKey asks for a token: where the file is absent or empty, the container ends with SourceTokenMissing.
    """

    secret: Bounded
    key: Bounded
