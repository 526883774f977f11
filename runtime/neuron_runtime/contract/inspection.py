"""What `python -m neuron_runtime.inspect` is asked, and what it answers in its termination message.

It reads metadata alone: of a hub the listing and `config.json`, of a bucket the listing, the heads of the objects that
are taken and `config.json`; only the files of a claim, which nobody has hashed before, are read as a whole. An answer
takes at most `FACTS_LIMIT` bytes, or the container fails.
"""

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import Field

from .artifact import Time
from .digests import ContractModel, Digest
from .origin import Bounded, Origin, S3Origin, SecretKey, VolumeOrigin
from .request import CompileRequest
from .store import StoreLocation

FACTS_LIMIT = 3584
"""Bytes of a termination message with facts; the kubelet keeps 4096."""

_Bytes = Annotated[int, Field(ge=0, lt=2**63)]
"""What the API server takes for a whole number."""


class HuggingFaceRevision(ContractModel):
    """A repository at a revision that may move: a branch, a tag, or a commit."""

    kind: Literal["HuggingFace"] = "HuggingFace"
    repo: Bounded
    revision: Bounded
    endpoint: Bounded | None = None
    """As in HuggingFaceOrigin."""


class CompiledArtifact(ContractModel):
    """An artifact that was compiled elsewhere (bring your own), in a store of its own."""

    kind: Literal["CompiledArtifact"] = "CompiledArtifact"
    store: StoreLocation
    digest: Digest


InspectTarget = Annotated[HuggingFaceRevision | S3Origin | VolumeOrigin | CompiledArtifact, Field(discriminator="kind")]
"""Told apart by `kind`."""


class InspectSpec(ContractModel):
    """Input of `python -m neuron_runtime.inspect`, in the variable `NEURON_INSPECT_SPEC`."""

    contract_version: Literal[1] = 1
    target: InspectTarget
    token: SecretKey | None = None
    """Present where a token is needed; for a Hugging Face target alone."""
    allow_pickle: bool = False
    """Whether pickled weights are taken where there are no others."""


class WeightFormat(str, Enum):
    """How the weights of a source are stored at its origin."""

    SAFETENSORS = "Safetensors"
    PICKLE = "Pickle"
    """`pytorch_model*.bin`. The compile Job converts them: the snapshot in the store holds safetensors."""


class SourceFacts(ContractModel):
    """A source that can be compiled: it has a `config.json`, and weights of a format that is read."""

    origin: Origin
    """Pinned: to be recorded, and given to the compile Job as it is."""
    digest: Digest
    """`source_digest` of the files that are taken."""
    size_bytes: _Bytes
    """Of the files that are taken."""
    weights: WeightFormat
    config: dict[str, Any]
    """`planning_config` of its `config.json`."""


class ArtifactFacts(ContractModel):
    """An artifact that is committed, whose request has the digest that was asked for, and whose source is there."""

    request: CompileRequest
    """`request.digest` is the artifact's digest, `request.source_digest` that of its source."""
    size_bytes: _Bytes
    """Of all files of the artifact."""
    created_at: Time
    source_commit: Bounded
    """Empty for a source that has no commit."""
    source_location: Bounded
    """Where the source came from, for people: a repository, `s3://...` or `pvc://...`."""
    source_size_bytes: _Bytes
    """Of the snapshot in the store."""
    config: dict[str, Any]
    """`planning_config` of the `config.json` in the source snapshot, for what a server of it needs."""
