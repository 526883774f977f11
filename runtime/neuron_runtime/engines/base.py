"""What an engine is: it compiles graphs of a model ahead of time, and loads them. It knows no store, hub or HTTP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from neuron_runtime.contract.artifact import ArtifactManifest, Graph
from neuron_runtime.contract.request import CompileRequest

Logits = npt.NDArray[np.float32]
Config = Mapping[str, Any]
"""A model's `config.json`."""


class Sampling(Enum):
    """Where a token is chosen."""

    LOGITS = "Logits"
    """The graphs return logits; the server samples."""
    ON_DEVICE = "OnDevice"
    """The graphs return tokens."""


@dataclass(frozen=True)
class Capabilities:
    """What loaded graphs can do; a scheduler must keep within it."""

    max_model_length: int
    """Tokens of prompt and answer together that one slot holds."""
    slots: int
    """Sequences that the KV cache has room for."""
    prefill_tokens: int
    """Most tokens that one prefill step takes."""
    decode_batches: tuple[int, ...]
    """Sequences that one decode step can advance, ascending."""
    chunked_prefill: bool
    """Whether a prompt may be taken in several steps."""
    static_batch: bool
    """Whether every decode step must list all live slots, and slots start together."""
    sampling: Sampling


@dataclass(frozen=True)
class CompileProgress:
    """How far a compilation is, in steps that take about equally long."""

    done: int
    total: int
    eta_seconds: float | None
    detail: str


Report = Callable[[CompileProgress], None]
"""Called about once a second, on the thread that compiles."""


@dataclass(frozen=True)
class Compiled:
    """What a compilation leaves in its output folder, for the artifact's manifest."""

    graphs: tuple[Graph, ...]
    tools: dict[str, str]
    timings: dict[str, float]
    """Seconds by stage and graph."""


class Session(Protocol):
    """Loaded graphs with their KV cache. One thread at a time may call it."""

    @property
    def capabilities(self) -> Capabilities:
        """Fixed for the session's life."""

    def warm_up(self) -> None:
        """Run every graph once, so that no request pays for a first time. Leaves the caches' content undefined."""

    def prefill(self, slot: int, tokens: Sequence[int], start: int) -> Logits:
        """Run tokens of a slot from position `start` on; logits[vocabulary] after the last of them.

        What the slot held from `start` on is gone; what it held before must be there.
        """

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Run one token for each of several different slots, at its position; logits[slots, vocabulary]."""

    def close(self) -> None:
        """Let go of graphs, weights and caches."""


class Engine(Protocol):
    """One library that compiles and runs. Every method raises ContainerFailure."""

    def toolchain(self) -> dict[str, str]:
        """What code generation depends on, as this container has it; compared with `CompileRequest.toolchain`."""

    def describe(self, request: CompileRequest, config: Config) -> tuple[Graph, ...]:
        """The graphs that a request stands for. Refuses a model that the engine cannot compile (UNSUPPORTED_MODEL)."""

    def compile(
        self, request: CompileRequest, source: Path, output: Path, *, threads: int, workers: int, report: Report
    ) -> Compiled:
        """Write graphs and weights into `output`. At most `workers` graphs at a time, each in a process of its own.

        Raises TOOLCHAIN_MISMATCH, UNSUPPORTED_MODEL, COMPILER_FAILED or OUT_OF_MEMORY.
        """

    def check(self, manifest: ArtifactManifest) -> None:
        """Refuse an artifact that this container cannot run (ARTIFACT_INCOMPATIBLE)."""

    def reads_source(self, path: str) -> bool:
        """Whether `load` reads this file of the source (weights that the artifact does not hold)."""

    def load(self, manifest: ArtifactManifest, artifact: Path, source: Path, threads: int) -> Session:
        """Load verified files, to run on so many CPU threads."""
