"""Runs compiled graphs on the CPU: weights mapped from the artifact's file, one KV cache that all graphs share."""

import mmap
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neuron_runtime.contract.artifact import ArtifactManifest

from .aot_inductor import Graph, Tensor, set_threads
from .base import Capabilities, DecodeRow, PrefillRow, Sampling, Step
from .llama_config import LlamaConfig


class Bucket(NamedTuple):
    """The most that one graph takes."""

    tokens: int
    """Of all rows together."""
    results: int
    """Rows: each has the logits of its last token."""


class CPUSession:
    """Graphs of one artifact. Any of them takes tokens of any slots; what kind it is only says what it was made for.

    The unit of work is one call of one graph; tokens that are not asked for are pads.
    """

    def __init__(
        self, manifest: ArtifactManifest, graphs: Mapping[str, Graph], config: LlamaConfig, threads: int
    ) -> None:
        self._threads = threads
        self._ready = threading.local()
        shapes = manifest.request.shapes
        # One position more than the context: it takes what pads write.
        shape = (shapes.max_batch_size, shapes.max_model_length + 1, config.key_value_heads, config.head_size)
        caches = [Tensor(_zeros(shape)) for _ in range(2 * config.layers)]
        buckets = {Bucket(graph.batch_size * graph.tokens, graph.batch_size): graph for graph in manifest.graphs}
        self._runners = {
            bucket: _Runner(graphs[buckets[bucket].path], bucket, shapes.max_model_length, caches)
            for bucket in sorted(buckets)
        }
        self._capabilities = Capabilities(
            max_model_length=shapes.max_model_length,
            slots=shapes.max_batch_size,
            vocabulary=config.vocabulary,
            prefill_tokens=max(graph.tokens for graph in manifest.graphs if graph.kind == "prefill"),
            prefill_batches=tuple(sorted({graph.batch_size for graph in manifest.graphs if graph.kind == "prefill"})),
            decode_batches=tuple(sorted({graph.batch_size for graph in manifest.graphs if graph.kind == "decode"})),
            mixed_steps=any(
                graph.batch_size > shapes.max_batch_size for graph in manifest.graphs if graph.kind == "decode"
            ),
            chunked_prefill=True,
            static_batch=False,
            sampling=Sampling.LOGITS,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Fixed for the session's life."""
        return self._capabilities

    def warm_up(self) -> None:
        """Run every graph once."""
        for bucket, runner in self._runners.items():
            self._run(runner, [PrefillRow(0, [0] * min(bucket.tokens, self.capabilities.max_model_length), 0)])

    def prefill(self, rows: Sequence[PrefillRow]) -> Step:
        """Run tokens of slots from position `start` on; what follows the last of each."""
        return self._step(rows)

    def decode(self, rows: Sequence[DecodeRow], prompts: Sequence[PrefillRow] = ()) -> Step:
        """Run one token for each of several slots, and tokens of other slots' prompts."""
        return self._step([*(PrefillRow(row.slot, (row.token,), row.position) for row in rows), *prompts])

    def release(self, slot: int) -> None:
        """Nothing to do: what a slot holds counts up to the position of its newest token alone."""

    def close(self) -> None:
        """Let go of graphs, weights and caches."""
        self._runners.clear()

    def _step(self, rows: Sequence[PrefillRow]) -> Step:
        self._check(rows)
        return self._run(self._runners[smallest_bucket(self._runners, rows)], rows)

    def _run(self, runner: "_Runner", rows: Sequence[PrefillRow]) -> Step:
        if not hasattr(self._ready, "threads"):
            # OpenMP keeps the number for each thread that calls it, and the one that loads need not be that which runs.
            set_threads(self._threads)
            self._ready.threads = self._threads
        return runner.run(rows)

    def _check(self, rows: Sequence[PrefillRow]) -> None:
        # A graph trusts its indices: one beyond the caches or the embedding reaches memory that is not its own.
        slots, limits = [row.slot for row in rows], self.capabilities
        if len(set(slots)) != len(slots) or not all(0 <= slot < limits.slots for slot in slots):
            raise ValueError(f"slots {slots}: they must differ and be below {limits.slots}")
        for row in rows:
            if not 0 <= row.start <= limits.max_model_length - len(row.tokens):
                raise ValueError(
                    f"positions from {row.start} for {len(row.tokens)} tokens: they must be below "
                    f"{limits.max_model_length}"
                )
            if not all(0 <= token < limits.vocabulary for token in row.tokens):
                raise ValueError(f"tokens {list(row.tokens)}: they must be below {limits.vocabulary}")


class _Runner:
    """One graph with the arrays that it reads; filled anew for each step."""

    def __init__(self, graph: Graph, bucket: Bucket, pad: int, caches: Sequence[Tensor]) -> None:
        self._graph = graph
        self._pad = pad
        self._tokens, self._slots, self._positions = (np.zeros(bucket.tokens, np.int64) for _ in range(3))
        self._last = np.zeros(bucket.results, np.int64)
        arrays = (self._tokens, self._slots, self._positions, self._last)
        self._inputs = [*map(Tensor, arrays), *caches]

    def run(self, rows: Sequence[PrefillRow]) -> Step:
        """Fill up to the graph's shape with pads, and run it."""
        self._positions.fill(self._pad)
        for array in (self._tokens, self._slots, self._last):
            array.fill(0)
        end = 0
        for number, row in enumerate(rows):
            first, end = end, end + len(row.tokens)
            self._tokens[first:end] = row.tokens
            self._positions[first:end] = np.arange(row.start, row.start + len(row.tokens))
            self._slots[first:end], self._last[number] = row.slot, end - 1
        (logits,) = self._graph.run(self._inputs)
        logits = logits[: len(rows)]
        return Step(tokens=logits.argmax(axis=1), logits=logits)


def smallest_bucket(buckets: Collection[Bucket], rows: Sequence[PrefillRow]) -> Bucket:
    """The first of ascending buckets that holds all rows. Raises ValueError when none does."""
    counts = [len(row.tokens) for row in rows]
    if rows and all(counts):
        for bucket in buckets:
            if sum(counts) <= bucket.tokens and len(rows) <= bucket.results:
                return bucket
    most = ", ".join(f"{bucket.results} of {bucket.tokens}" for bucket in buckets)
    raise ValueError(f"{len(rows)} sequences of {counts} tokens; the graphs take {most} tokens together")


def _zeros(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Memory that the system gives when it is written to first, and at the start of a page."""
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, np.float32).reshape(shape)
