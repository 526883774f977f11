"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import serving.settings
from neuron_runtime.contract.request import Shapes


@dataclass(frozen=True)
class Settings:
    """One size of the benchmark."""

    compiled: serving.settings.Settings
    """The model and its shapes; nothing is served."""
    decoded: int
    """Steps of each decode that is timed."""
    window: int
    """Tokens of the text that are read in one go."""
    text_tokens: int | None
    """The text's first tokens; None for all of it."""


def _sized(of: serving.settings.Settings, length: int, prefill: int) -> serving.settings.Settings:
    shapes = Shapes(
        max_model_length=length, max_batch_size=4, context_lengths=(prefill,), token_generation_batches=(1, 4)
    )
    return replace(of, shapes=shapes)


SIZES = {
    "tiny": Settings(_sized(serving.settings.TINY, 64, 16), decoded=16, window=32, text_tokens=256),
    "smollm2": Settings(_sized(serving.settings.SMOLLM2, 256, 64), decoded=64, window=256, text_tokens=None),
}
