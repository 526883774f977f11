"""ArtifactManifest: what a compiled artifact holds, committed by being put last."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from .digests import ContractModel, Digest
from .request import CompileRequest
from .source import StoredFile


class Graph(ContractModel):
    """One compiled graph, which serves exactly one bucket."""

    name: str
    kind: Literal["prefill", "decode", "encode"]
    batch_size: PositiveInt
    """Sequences per step."""
    tokens: PositiveInt
    """New tokens per sequence and step."""
    context_length: PositiveInt
    """Cached tokens that the step can attend to."""
    path: str
    """File below the artifact's prefix."""


class ArtifactManifest(ContractModel):
    """The artifact's table of contents. `digest` is `request.digest`."""

    contract_version: Literal[1] = 1
    digest: Digest
    request: CompileRequest
    source_commit: str
    """Commit of the source at its origin, for people; `request.source_digest` is what identifies it."""
    graphs: tuple[Graph, ...]
    files: tuple[StoredFile, ...]
    tools: dict[str, str]
    """Versions of everything that took part, for people."""
    timings: dict[str, float]
    """Seconds by stage."""
    created_at: str
    """RFC 3339, UTC."""

    @property
    def size_bytes(self) -> NonNegativeInt:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)
