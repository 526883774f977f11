"""How much is measured: everything that bounds a run in count and time."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_runtime.contract.request import Shapes


@dataclass(frozen=True)
class Settings:
    """One size of the benchmark."""

    model: str
    shapes: Shapes
    prompt_tokens: int
    """Of every question, the chat template's tokens included; they fit into one prefill step."""
    answer_tokens: int
    rounds: int
    questions_per_stream: int
    starts: int
    """How often the server is started to see how long that takes."""
    judged: bool
    """Whether the figures are held against the targets: with two layers, all is overhead."""

    @property
    def slots(self) -> int:
        """Sequences that the server works on at the same time."""
        return self.shapes.max_batch_size

    @property
    def batches(self) -> tuple[int, int]:
        """Of raw decoding: alone, and as many as there is room for."""
        return 1, self.slots


TINY = Settings(
    model="tiny",
    shapes=Shapes(max_model_length=128, max_batch_size=4, context_lengths=(64,), token_generation_batches=(1, 4, 12)),
    prompt_tokens=60,
    answer_tokens=24,
    rounds=2,
    questions_per_stream=2,
    starts=1,
    judged=False,
)
SMOLLM2 = Settings(
    model="smollm2",
    shapes=Shapes(
        max_model_length=256, max_batch_size=8, context_lengths=(64,), token_generation_batches=(1, 4, 8, 16)
    ),
    prompt_tokens=64,
    answer_tokens=64,
    rounds=5,
    questions_per_stream=3,
    starts=5,
    judged=True,
)
SIZES = {settings.model: settings for settings in (TINY, SMOLLM2)}
