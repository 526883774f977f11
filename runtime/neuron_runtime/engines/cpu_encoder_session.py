"""Runs an encoder's compiled graphs on the CPU: texts to vectors, one call of one graph at a time."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from neuron_runtime.contract.artifact import ArtifactManifest

from .aot_inductor import Graph, Tensor, set_threads
from .base import EncoderCapabilities, Vectors
from .bert_config import BertConfig


class EncodeBucket(NamedTuple):
    """The most that one graph takes; in this order, so that the shortest that holds the texts comes first."""

    tokens: int
    rows: int


class CPUEncoderSession:
    """Graphs of one encoder. Rows and tokens that are not asked for are pads."""

    def __init__(
        self, manifest: ArtifactManifest, graphs: Mapping[str, Graph], config: BertConfig, threads: int
    ) -> None:
        self._threads = threads
        self._vocabulary = config.vocabulary
        buckets = {EncodeBucket(graph.tokens, graph.batch_size): graph.path for graph in manifest.graphs}
        self._runners = {bucket: _Runner(graphs[buckets[bucket]], bucket) for bucket in sorted(buckets)}
        self._capabilities = EncoderCapabilities(
            lengths=tuple(sorted({bucket.tokens for bucket in buckets})),
            batches=tuple(sorted({bucket.rows for bucket in buckets})),
            vocabulary=config.vocabulary,
            dimensions=config.hidden_size,
        )

    @property
    def capabilities(self) -> EncoderCapabilities:
        """Fixed for the session's life."""
        return self._capabilities

    def warm_up(self) -> None:
        """Run every graph once."""
        set_threads(self._threads)
        for bucket, runner in self._runners.items():
            runner.run([[0] * bucket.tokens] * bucket.rows)

    def encode(self, rows: Sequence[Sequence[int]]) -> Vectors:
        """One vector for each text. Raises ValueError for texts that no graph takes."""
        bucket = smallest_encode_bucket(self._runners, rows)
        for row in rows:
            # A graph trusts its indices: one beyond the embedding reaches memory that is not its own.
            if not all(0 <= token < self._vocabulary for token in row):
                raise ValueError(f"tokens {list(row)}: they must be below {self._vocabulary}")
        set_threads(self._threads)
        return self._runners[bucket].run(rows)

    def close(self) -> None:
        """Let go of graphs and weights."""
        self._runners.clear()


def smallest_encode_bucket(buckets: Collection[EncodeBucket], rows: Sequence[Sequence[int]]) -> EncodeBucket:
    """The first of ascending buckets that holds all texts. Raises ValueError when none does."""
    lengths = [len(row) for row in rows]
    if rows and all(lengths):
        for bucket in buckets:
            if len(rows) <= bucket.rows and max(lengths) <= bucket.tokens:
                return bucket
    most = max(bucket.rows for bucket in buckets), max(bucket.tokens for bucket in buckets)
    raise ValueError(f"{len(rows)} texts of {lengths} tokens; the graphs take 1 to {most[0]} texts of 1 to {most[1]}")


class _Runner:
    """One graph with the arrays that it reads; filled anew for each step."""

    def __init__(self, graph: Graph, bucket: EncodeBucket) -> None:
        self._graph = graph
        self._tokens = np.zeros((bucket.rows, bucket.tokens), np.int64)
        self._lengths = np.ones(bucket.rows, np.int64)
        self._inputs = [Tensor(self._tokens), Tensor(self._lengths)]

    def run(self, rows: Sequence[Sequence[int]]) -> Vectors:
        """Fill up to the graph's shape with pads, and run it."""
        self._tokens.fill(0)
        self._lengths.fill(1)
        for number, row in enumerate(rows):
            self._tokens[number, : len(row)] = row
            self._lengths[number] = len(row)
        (vectors,) = self._graph.run(self._inputs)
        return vectors[: len(rows)]
