"""Runs compiled graphs on the CPU: weights mapped from the artifact's file, one KV cache that all graphs share."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from neuron_runtime.contract.artifact import ArtifactManifest, Graph
from neuron_runtime.store.files import contained

from .base import Capabilities, DecodeRow, Logits, PrefillRow, Sampling, Step
from .cpu import WEIGHTS
from .llama_config import LlamaConfig

_PACKAGED_MODEL = "model"
_CPU_DEVICE = -1


class CPUSession:
    """Graphs of one artifact. The unit of work is one call of one graph; rows that are not asked for are pads."""

    def __init__(self, manifest: ArtifactManifest, folder: Path, config: LlamaConfig, threads: int) -> None:
        self._threads = threads
        self._ready = threading.local()
        shapes = manifest.request.shapes
        self._context_length = shapes.max_model_length
        self._weights = load_file(folder / WEIGHTS)
        self._prefill = self._load(manifest, folder, "prefill")
        self._decode = self._load(manifest, folder, "decode")
        self._capabilities = Capabilities(
            max_model_length=shapes.max_model_length,
            slots=shapes.max_batch_size,
            vocabulary=config.vocabulary,
            prefill_tokens=max(self._prefill),
            prefill_batches=(1,),
            decode_batches=tuple(self._decode),
            chunked_prefill=True,
            static_batch=False,
            sampling=Sampling.LOGITS,
        )
        # One position more than the context: it takes what pads write.
        shape = (shapes.max_batch_size, shapes.max_model_length + 1, config.key_value_heads, config.head_size)
        self._caches = [torch.zeros(shape) for _ in range(2 * config.layers)]

    @property
    def capabilities(self) -> Capabilities:
        """Fixed for the session's life."""
        return self._capabilities

    def warm_up(self) -> None:
        """Run every graph once."""
        for length in self._prefill:
            self.prefill([PrefillRow(0, [0] * length, 0)])
        for batch in self._decode:
            self.decode([DecodeRow(slot, 0, 0) for slot in range(min(batch, self.capabilities.slots))])

    def prefill(self, rows: Sequence[PrefillRow]) -> Step:
        """Run tokens of a slot from position `start` on; what follows the last of them."""
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} sequences of one prefill step; the graphs take one")
        (row,) = rows
        length = _smallest(self._prefill, len(row.tokens), "tokens of one prefill step")
        self._check([row.slot], row.tokens, [row.start, row.start + len(row.tokens) - 1])
        positions = list(range(row.start, row.start + len(row.tokens)))
        return self._run(self._prefill[length], [list(row.tokens)], [row.slot], [positions], (1, length))

    def decode(self, rows: Sequence[DecodeRow]) -> Step:
        """Run one token for each of several slots."""
        batch = _smallest(self._decode, len(rows), "sequences of one decode step")
        slots = [row.slot for row in rows]
        self._check(slots, [row.token for row in rows], [row.position for row in rows])
        tokens, positions = [[row.token] for row in rows], [[row.position] for row in rows]
        return self._run(self._decode[batch], tokens, slots, positions, (batch, 1))

    def release(self, slot: int) -> None:
        """Nothing to do: what a slot holds counts up to the position of its newest token alone."""

    def close(self) -> None:
        """Let go of graphs, weights and caches."""
        self._prefill.clear()
        self._decode.clear()
        self._caches.clear()
        self._weights.clear()

    def _run(
        self, graph: Any, tokens: list[list[int]], slots: list[int], positions: list[list[int]], shape: tuple[int, int]
    ) -> Step:
        """Fill up to the graph's shape with pads, and run it."""
        if not hasattr(self._ready, "threads"):
            # OpenMP keeps the number for each thread that calls it, and the one that loads need not be that which runs.
            torch.set_num_threads(self._threads)
            self._ready.threads = self._threads
        filled = np.zeros(shape, np.int64)
        at = np.full(shape, self._context_length, np.int64)
        filled[: len(tokens), : len(tokens[0])] = tokens
        at[: len(positions), : len(positions[0])] = positions
        rows = np.zeros(shape[0], np.int64)
        rows[: len(slots)] = slots
        last = np.full(shape[0], len(tokens[0]) - 1, np.int64)
        inputs = [torch.from_numpy(array) for array in (filled, rows, at, last)]
        output: Tensor = graph.run([*inputs, *self._caches])[0]
        logits: Logits = output.numpy()[: len(slots)]
        return Step(tokens=logits.argmax(axis=1), logits=logits)

    def _check(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> None:
        # A graph trusts its indices: one beyond the caches or the embedding reaches memory that is not its own.
        if len(set(slots)) != len(slots) or not all(0 <= slot < self.capabilities.slots for slot in slots):
            raise ValueError(f"slots {list(slots)}: they must differ and be below {self.capabilities.slots}")
        if not all(0 <= position < self._context_length for position in positions):
            raise ValueError(f"positions {list(positions)}: they must be below {self._context_length}")
        if not all(0 <= token < self.capabilities.vocabulary for token in tokens):
            raise ValueError(f"tokens {list(tokens)}: they must be below {self.capabilities.vocabulary}")

    def _load(self, manifest: ArtifactManifest, folder: Path, kind: str) -> dict[int, Any]:
        """Graphs of one kind by their size, ascending."""
        graphs = [graph for graph in manifest.graphs if graph.kind == kind]
        graphs.sort(key=_size)
        return {_size(graph): self._open(contained(folder, graph.path)) for graph in graphs}

    def _open(self, path: Path) -> Any:
        # Not torch's Python wrapper: that imports the whole compiler, which a server has no use for.
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), _PACKAGED_MODEL, False, 1, _CPU_DEVICE)
        constants = {name: self._weights[name] for name in loader.get_constant_fqns()}
        loader.load_constants(constants, False, True, True)
        return loader


def _size(graph: Graph) -> int:
    return graph.tokens if graph.kind == "prefill" else graph.batch_size


def _smallest(graphs: dict[int, Any], wanted: int, what: str) -> int:
    """The smallest size that holds what is wanted."""
    for size in graphs:
        if 0 < wanted <= size:
            return size
    raise ValueError(f"{wanted} {what}; the graphs take 1 to {max(graphs)}")
