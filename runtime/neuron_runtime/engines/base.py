"""What an engine is: it compiles graphs of a model ahead of time, and loads them. It knows no store, hub or HTTP."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from neuron_runtime.contract.artifact import ArtifactManifest, Graph
from neuron_runtime.contract.request import CompileRequest

Logits = npt.NDArray[np.float32]
"""float32[rows, vocabulary]."""
Vectors = npt.NDArray[np.float32]
"""float32[rows, dimensions]."""
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
    vocabulary: int
    """Tokens that the graphs know: ids from 0 up to, and without, this one."""
    prefill_tokens: int
    """Most tokens of one sequence that one prefill step takes."""
    prefill_batches: tuple[int, ...]
    """Sequences that one prefill step can take, ascending."""
    decode_batches: tuple[int, ...]
    """Sequences that one decode step can advance, ascending; with `mixed_steps`, tokens that it can take."""
    mixed_steps: bool
    """Whether a decode step may take tokens of prompts beside the rows that it advances."""
    chunked_prefill: bool
    """Whether a prompt may be taken in several steps."""
    static_batch: bool
    """Whether every decode step must list all live slots, and slots start together."""
    sampling: Sampling


@dataclass(frozen=True)
class EncoderCapabilities:
    """What the loaded graphs of an encoder can do."""

    lengths: tuple[int, ...]
    """Tokens that the texts of a step are filled up to, ascending; a step costs what its longest text does."""
    batches: tuple[int, ...]
    """Texts that one step can take, ascending; each of any of the lengths."""
    vocabulary: int
    """Tokens that the graphs know: ids from 0 up to, and without, this one."""
    dimensions: int
    """Numbers of one vector."""

    @property
    def max_length(self) -> int:
        """Tokens that one text can have."""
        return self.lengths[-1]


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


@dataclass(frozen=True)
class PrefillRow:
    """Tokens of one slot, to be run from position `start` on."""

    slot: int
    tokens: Sequence[int]
    start: int


@dataclass(frozen=True)
class DecodeRow:
    """The newest token of one slot, and its position."""

    slot: int
    token: int
    position: int


@dataclass(frozen=True)
class Step:
    """One result for each row asked for, in their order. Valid until the session is called again."""

    tokens: npt.NDArray[np.int64]
    """int64[rows]: the most likely token of each row; the sampled one where sampling is ON_DEVICE."""
    logits: Logits | None
    """float32[rows, vocabulary]; None where sampling is ON_DEVICE."""


Wait = Callable[[str], None]
"""Returns once a file of the artifact, which its path names, lies verified in its folder. Raises ContainerFailure when
it never will."""


def there_already(_path: str) -> None:
    """The wait for files that were fetched before."""


@runtime_checkable
class GenerationSession(Protocol):
    """Loaded graphs with their KV cache. One thread at a time may call it."""

    @property
    def capabilities(self) -> Capabilities:
        """Fixed for the session's life."""

    def warm_up(self) -> None:
        """Run every graph once, so that no request pays for a first time. Leaves the caches' content undefined."""

    def prefill(self, rows: Sequence[PrefillRow]) -> Step:
        """Run tokens of one or several different slots; what follows the last token of each.

        What a slot held from `start` on is gone; what it held before must be there. Raises ValueError for rows that
        the graphs cannot take.
        """

    def decode(self, rows: Sequence[DecodeRow], prompts: Sequence[PrefillRow] = ()) -> Step:
        """Run one token for each of several different slots, and where steps may be mixed, tokens of other slots'
        prompts as `prefill` does; results of the rows, then of the prompts.

        Raises ValueError for rows that the graphs cannot take.
        """

    def release(self, slot: int) -> None:
        """The slot's sequence has ended: nothing of it is needed any more."""

    def close(self) -> None:
        """Let go of graphs, weights and caches."""


@runtime_checkable
class EncoderSession(Protocol):
    """Loaded graphs that turn texts into vectors. One thread at a time may call it."""

    @property
    def capabilities(self) -> EncoderCapabilities:
        """Fixed for the session's life."""

    def warm_up(self) -> None:
        """Run every graph once, so that no request pays for a first time."""

    def encode(self, rows: Sequence[Sequence[int]]) -> Vectors:
        """float32[rows, dimensions]: one vector for each row of tokens. Valid until the session is called again.

        Raises ValueError for rows that the graphs cannot take.
        """

    def close(self) -> None:
        """Let go of graphs and weights."""


Session = GenerationSession | EncoderSession
"""What an engine loads; which of them the request's task decides."""


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
        """Refuse what this container cannot run (ARTIFACT_INCOMPATIBLE) or what lacks a file (ARTIFACT_DAMAGED)."""

    def reads_source(self, path: str) -> bool:
        """Whether `load` reads this file of the source (weights that the artifact does not hold)."""

    def load(
        self,
        manifest: ArtifactManifest,
        artifact: Path,
        source: Path,
        threads: int,
        wait: Wait = there_already,
    ) -> Session:
        """Load verified files, to run on so many CPU threads. The source's files are there, the artifact's may still be
        coming: each is to be waited for before it is touched, and the weights last."""
