"""llama.cpp through llama-cpp-python's bindings of its C API: sequences of one batch, and no server."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from serving.contestants import Generated

# In an environment of its own, if at all: it has no wheels, and takes minutes to build.
llama_cpp: Any = importlib.import_module("llama_cpp")

_FLOAT32 = 0


class LlamaCppBatch:
    """A model in GGUF, its caches in float32 as ours are."""

    def __init__(self, model: Path, slots: int, context: int) -> None:
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(model).encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp does not load {model}")
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = slots * context
        parameters.n_batch = parameters.n_ubatch = slots * context
        parameters.n_seq_max = slots
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.type_k = parameters.type_v = _FLOAT32
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise RuntimeError("llama.cpp makes no context")
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(parameters.n_batch, 0, 1)

    def versions(self) -> Mapping[str, str]:
        """Of the bindings."""
        return {"llama-cpp-python": llama_cpp.__version__}

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        """All prompts as one batch, then one token of each sequence in every step."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        started = perf_counter()
        for sequence, prompt in enumerate(prompts):
            for position, token in enumerate(prompt):
                self._add(token, position, sequence, wanted=position == len(prompt) - 1)
        ends = [sum(map(len, prompts[: sequence + 1])) - 1 for sequence in range(len(prompts))]
        answers = [[token] for token in self._decode(ends)]
        at = perf_counter()
        prefill, steps = at - started, []
        for position in range(len(prompts[0]), len(prompts[0]) + tokens - 1):
            for sequence, answer in enumerate(answers):
                self._add(answer[-1], position, sequence, wanted=True)
            for answer, token in zip(answers, self._decode(range(len(prompts))), strict=True):
                answer.append(token)
            now = perf_counter()
            steps.append(now - at)
            at = now
        return Generated(prefill, tuple(steps), tuple(map(tuple, answers)))

    def _add(self, token: int, position: int, sequence: int, *, wanted: bool) -> None:
        batch, index = self._batch, self._batch.n_tokens
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = sequence
        batch.logits[index] = wanted
        batch.n_tokens += 1

    def _decode(self, rows: Sequence[int]) -> list[int]:
        """Run what was added; the likeliest token after each of the rows."""
        status = llama_cpp.llama_decode(self._context, self._batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")
        self._batch.n_tokens = 0
        return [self._likeliest(row) for row in rows]

    def _likeliest(self, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, (self._vocabulary,)).argmax())
