"""`generate` of transformers, in float32, with its default cache: what most people would run on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers

from serving.contestants import Generated


class TransformersGenerate:
    """The model as `AutoModelForCausalLM` loads it."""

    def __init__(self, source: Path) -> None:
        torch.set_num_threads(1)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        self._model = model.eval()

    def versions(self) -> Mapping[str, str]:
        """Of transformers and torch."""
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> Generated:
        """All prompts as one batch."""
        ids, clock = torch.tensor([list(prompt) for prompt in prompts]), _Clock()
        started = perf_counter()
        with torch.inference_mode():
            answer = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                eos_token_id=None,
                pad_token_id=0,
                streamer=clock,
            )
        # The first call brings the prompt, each further one a token of every sequence.
        times = clock.times[1:]
        steps = tuple(after - before for before, after in pairwise(times))
        return Generated(times[0] - started, steps, tuple(map(tuple, answer[:, ids.shape[1] :].tolist())))


class _Clock(transformers.generation.streamers.BaseStreamer):
    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(perf_counter())

    def end(self) -> None:
        pass
