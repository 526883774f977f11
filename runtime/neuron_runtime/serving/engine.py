"""What the server asks of an engine. Engines know nothing of HTTP, queues or text; the server knows no library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from neuron_runtime.contract.artifact import ArtifactManifest

from .sampling import Logits


class Capabilities(Protocol):
    """What the loaded graphs can do."""

    @property
    def max_model_length(self) -> int:
        """Tokens of prompt and answer together that one slot holds."""

    @property
    def prefill_tokens(self) -> int:
        """Most tokens that one prefill step takes."""


class Session(Protocol):
    """Loaded graphs with their caches. One thread at a time may call it."""

    @property
    def capabilities(self) -> Capabilities:
        """Fixed for the session's life."""

    def warm_up(self) -> None:
        """Run every graph once, so that no request pays for a first time."""

    def prefill(self, slot: int, tokens: Sequence[int], start: int) -> Logits:
        """Run prompt tokens of a slot from position `start` on, which 0 empties; logits[vocabulary] after the last."""

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Run one token for each slot at its position; logits[slots, vocabulary]."""

    def close(self) -> None:
        """Let go of the device."""


class Engine(Protocol):
    """Loads artifacts."""

    def check(self, manifest: ArtifactManifest) -> None:
        """Raise ContainerFailure(ARTIFACT_INCOMPATIBLE) when this container cannot run the artifact."""

    def reads_source(self, path: str) -> bool:
        """Whether `load` reads this file of the source (weights that the artifact does not hold)."""

    def load(self, manifest: ArtifactManifest, artifact: Path, source: Path, threads: int) -> Session:
        """Load verified files. Raises ContainerFailure."""
