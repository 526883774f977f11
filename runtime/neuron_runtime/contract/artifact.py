"""ArtifactManifest: what a compiled artifact holds, committed by being put last."""

from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt, StringConstraints, model_validator

from .digests import ContractModel, Digest
from .request import CompileRequest
from .source import StoredFile

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _is_time(value: str) -> str:
    datetime.strptime(value, _TIME).replace(tzinfo=timezone.utc)
    return value


# The form alone lets the 31st of June through, parsing alone a month of one digit: the API server takes neither.
Time = Annotated[str, StringConstraints(pattern=r"^\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z$"), AfterValidator(_is_time)]


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
    """File below the artifact's prefix, one of the manifest's files."""


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
    created_at: Time
    """RFC 3339, UTC, whole seconds."""

    @model_validator(mode="after")
    def _holds_its_graphs(self) -> "ArtifactManifest":
        # Machine code that is in no list of files is code that nobody has verified.
        unknown = {graph.path for graph in self.graphs} - {file.path for file in self.files}
        if unknown:
            raise ValueError(f"graphs lie in {', '.join(sorted(unknown))}, which are not among the files")
        if self.size_bytes >= 2**63:
            raise ValueError(f"the files have {self.size_bytes} bytes together")
        return self

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)
