"""Runs compiled graphs on the CPU, through torch's own package loader.

The weights are mapped into memory once and shared by all graphs. The loader holds the GIL during a graph.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch._C import _aoti

from neuron_runtime.contract.artifact import Graph
from neuron_runtime.contract.request import Shapes

from .base import Capabilities, Logits, Sampling
from .llama import empty_caches
from .llama_config import LlamaConfig


class CPUSession:
    """Loaded graphs with their KV cache."""

    def __init__(
        self, config: LlamaConfig, shapes: Shapes, graphs: Sequence[Graph], folder: Path, weights: Path, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._length = shapes.max_model_length
        self._caches = empty_caches(config, shapes.max_batch_size, self._length)
        # Kept for the session's life: the graphs point into it.
        self._weights = load_file(weights)
        prefills = sorted((graph for graph in graphs if graph.kind == "prefill"), key=lambda graph: graph.tokens)
        decodes = sorted((graph for graph in graphs if graph.kind == "decode"), key=lambda graph: graph.batch_size)
        self._prefills = {graph.tokens: self._open(folder / graph.path) for graph in prefills}
        self._decodes = {graph.batch_size: self._open(folder / graph.path) for graph in decodes}
        self._capabilities = Capabilities(
            max_model_length=self._length,
            slots=shapes.max_batch_size,
            prefill_tokens=max(self._prefills),
            decode_batches=tuple(self._decodes),
            chunked_prefill=True,
            static_batch=False,
            sampling=Sampling.LOGITS,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Fixed for the session's life."""
        return self._capabilities

    def warm_up(self) -> None:
        """Run every graph once. What it writes into the cache is overwritten before anything reads it."""
        for tokens in self._prefills:
            self.prefill(0, [0] * tokens, 0)
        for batch in self._decodes:
            slots = [slot % self._capabilities.slots for slot in range(batch)]
            self.decode(slots, [0] * batch, [0] * batch)

    def prefill(self, slot: int, tokens: Sequence[int], start: int) -> Logits:
        """Run prompt tokens of a slot from position `start` on; logits[vocabulary] after the last of them."""
        size = next(size for size in self._prefills if size >= len(tokens))
        padding = size - len(tokens)
        ids = [*tokens, *[0] * padding]
        # The cache's row behind the last one takes what padding writes.
        positions = [*range(start, start + len(tokens)), *[self._length] * padding]
        return self._run(self._prefills[size], [ids], [slot], [positions], [len(tokens) - 1])[0]

    def decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        """Run one token for each slot at its position; logits[slots, vocabulary]."""
        largest = max(self._decodes)
        parts = []
        for first in range(0, len(slots), largest):
            part = slice(first, first + largest)
            parts.append(self._decode(slots[part], tokens[part], positions[part]))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def close(self) -> None:
        """Let go of the graphs before the weights that they point to."""
        self._prefills.clear()
        self._decodes.clear()
        self._weights.clear()
        self._caches.clear()

    def _decode(self, slots: Sequence[int], tokens: Sequence[int], positions: Sequence[int]) -> Logits:
        size = next(size for size in self._decodes if size >= len(slots))
        padding = size - len(slots)
        ids = [[token] for token in (*tokens, *[0] * padding)]
        rows = [[position] for position in (*positions, *[self._length] * padding)]
        logits = self._run(self._decodes[size], ids, [*slots, *[0] * padding], rows, [0] * size)
        return logits[: len(slots)]

    def _run(
        self,
        graph: "_aoti.AOTIModelPackageLoader",
        ids: Sequence[Sequence[int]],
        slots: Sequence[int],
        positions: Sequence[Sequence[int]],
        last: Sequence[int],
    ) -> Logits:
        inputs = [torch.tensor(values, dtype=torch.int64) for values in (ids, slots, positions, last)]
        (logits,) = graph.run([*inputs, *self._caches])
        array: Logits = logits.numpy()
        return array

    def _open(self, path: Path) -> "_aoti.AOTIModelPackageLoader":
        loader = _aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
        constants = {name: self._weights[name] for name in loader.get_constant_fqns()}
        loader.load_constants(constants, False, True, True)
        return loader
