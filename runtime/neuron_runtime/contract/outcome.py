"""How a container says what became of it: failure codes, exit codes and the termination message.

The kubelet cuts a termination message at 4096 bytes, so `TerminationMessage.encode` keeps below that.
"""

from enum import Enum, IntEnum
from typing import Optional

from pydantic import NonNegativeInt, ValidationError

from .digests import ContractModel, Digest
from .inspection import ArtifactFacts, SourceFacts

TERMINATION_MESSAGE_LIMIT = 4096


class FailureCode(str, Enum):
    """Stable names of what went wrong in a container."""

    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_ACCESS_DENIED = "SourceAccessDenied"
    SOURCE_TOKEN_MISSING = "SourceTokenMissing"  # noqa: S105 - the name of a failure
    """The document asks for a token, and the Secret or its key is not there or empty."""
    SOURCE_CHANGED = "SourceChanged"
    """The files at the origin do not have the digest that was asked for."""
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_RATE_LIMITED = "SourceRateLimited"
    """The origin answers, but not to us now (429); `retry_after_seconds` says when to ask again, if it did."""
    SOURCE_INCOMPLETE = "SourceIncomplete"
    """The source is there, but has no `config.json`, or no weights that are read; they may still come."""
    SOURCE_UNSAFE = "SourceUnsafe"
    """The source would make a reader leave its folder, or run code that is in a pickle."""
    SOURCE_MISSING = "SourceMissing"
    """The store holds no snapshot of the source."""
    SOURCE_DAMAGED = "SourceDamaged"
    """The store's snapshot of the source is not what its manifest says."""
    STORE_ACCESS_DENIED = "StoreAccessDenied"
    STORE_BUCKET_NOT_FOUND = "StoreBucketNotFound"
    STORE_UNREACHABLE = "StoreUnreachable"
    UNSUPPORTED_MODEL = "UnsupportedModel"
    TOOLCHAIN_MISMATCH = "ToolchainMismatch"
    """The image does not hold the toolchain that the request names."""
    COMPILER_FAILED = "CompilerFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    OUT_OF_DISK = "OutOfDisk"
    ARTIFACT_MISSING = "ArtifactMissing"
    ARTIFACT_DAMAGED = "ArtifactDamaged"
    """A file's size or SHA-256 is not what the manifest says."""
    ARTIFACT_INCOMPATIBLE = "ArtifactIncompatible"
    """The artifact was built by or for something else than this container."""
    INVALID_SPEC = "InvalidSpec"
    """The container was started with a document that it cannot read."""
    INTERNAL = "Internal"


class ExitCode(IntEnum):
    """Exit codes of our containers; apart from those that shells and signals use."""

    OK = 0
    FAILED = 1
    INVALID_SPEC = 64
    ARTIFACT_MISSING = 70
    ARTIFACT_DAMAGED = 71
    ARTIFACT_INCOMPATIBLE = 72
    SOURCE_MISSING = 73
    SOURCE_DAMAGED = 74
    SOURCE_TOKEN_MISSING = 75
    SOURCE_UNSAFE = 76


_EXIT_CODES = {
    FailureCode.INVALID_SPEC: ExitCode.INVALID_SPEC,
    FailureCode.ARTIFACT_MISSING: ExitCode.ARTIFACT_MISSING,
    FailureCode.ARTIFACT_DAMAGED: ExitCode.ARTIFACT_DAMAGED,
    FailureCode.ARTIFACT_INCOMPATIBLE: ExitCode.ARTIFACT_INCOMPATIBLE,
    FailureCode.SOURCE_MISSING: ExitCode.SOURCE_MISSING,
    FailureCode.SOURCE_DAMAGED: ExitCode.SOURCE_DAMAGED,
    FailureCode.SOURCE_TOKEN_MISSING: ExitCode.SOURCE_TOKEN_MISSING,
    FailureCode.SOURCE_UNSAFE: ExitCode.SOURCE_UNSAFE,
}


def exit_code_of(code: FailureCode) -> ExitCode:
    """Exit code that goes with a failure code."""
    return _EXIT_CODES.get(code, ExitCode.FAILED)


class ContainerFailure(Exception):
    """A failure with a code of ours. Entry points turn it into the termination message and the exit code."""

    def __init__(self, code: FailureCode, message: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class TerminationMessage(ContractModel):
    """What a container leaves behind: a failure with its code, or what it made or found."""

    code: FailureCode | None = None
    """Absent after success."""
    message: str = ""
    retry_after_seconds: NonNegativeInt | None = None
    """Seconds until asking again is worth it, where the origin said so; at most an hour."""
    artifact_digest: Digest | None = None
    """Of a compile container: the artifact that is committed now."""
    source: SourceFacts | None = None
    """Of an inspect container that was asked for a source."""
    artifact: ArtifactFacts | None = None
    """Of an inspect container that was asked for a compiled artifact."""

    def encode(self) -> str:
        """JSON of at most 4096 bytes; a longer message loses its middle. Raises ValueError for longer facts."""
        encoded, kept = self.to_json(), len(self.message)
        while len(encoded.encode()) > TERMINATION_MESSAGE_LIMIT:
            if kept == 0:
                raise ValueError(f"facts of {len(encoded.encode())} bytes do not fit a termination message")
            # How many bytes a character takes is known only once it is escaped.
            kept = kept * 3 // 4
            head, tail = self.message[: kept // 2], self.message[len(self.message) - kept // 2 :]
            encoded = self.model_copy(update={"message": f"{head} ... {tail}"}).to_json()
        return encoded

    @classmethod
    def decode(cls, text: str) -> Optional["TerminationMessage"]:
        """Read a termination message; None when the text is not one (a log tail, or nothing)."""
        try:
            message = cls.model_validate_json(text)
        except ValidationError:
            return None
        results = (message.code, message.artifact_digest, message.source, message.artifact)
        return message if any(result is not None for result in results) else None
