"""How well a model predicts a text, by the graphs that it is served with: a decode step's logits at every token.

The text is cut into windows that are read side by side, one slot each. The first token of a window has nothing before
it, and is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neuron_runtime.engines.base import DecodeRow, GenerationSession, Logits


@dataclass(frozen=True)
class Judged:
    """What a model made of a text, token by token in one order for every model."""

    losses: tuple[float, ...]
    """Of each token: the negative logarithm of the probability that it had."""
    favorites: tuple[int, ...]
    """What was likeliest instead, or was the token itself."""

    @property
    def perplexity(self) -> float:
        """Between how many equally likely tokens the model was undecided, in the geometric mean."""
        return math.exp(sum(self.losses) / len(self.losses))

    def agreement(self, other: Judged) -> float:
        """The share of tokens for which both had the same favorite."""
        pairs = list(zip(self.favorites, other.favorites, strict=True))
        return sum(mine == theirs for mine, theirs in pairs) / len(pairs)


def judge(session: GenerationSession, text: Sequence[int], window: int) -> Judged:
    """Read a text, in windows of so many tokens; what is left at its end and fills none is left out."""
    slots = session.capabilities.slots
    windows = [text[start : start + window] for start in range(0, len(text) - window + 1, window)]
    losses, favorites = list[float](), list[int]()
    for first in range(0, len(windows), slots):
        for loss, favorite in _read(session, windows[first : first + slots]):
            losses += loss
            favorites += favorite
    return Judged(tuple(losses), tuple(favorites))


def _read(session: GenerationSession, windows: Sequence[Sequence[int]]) -> Iterator[tuple[list[float], list[int]]]:
    for position in range(len(windows[0]) - 1):
        step = session.decode([DecodeRow(slot, window[position], position) for slot, window in enumerate(windows)])
        assert step.logits is not None
        following = [window[position + 1] for window in windows]
        yield negative_logarithms(step.logits, following), step.tokens.tolist()
    for slot in range(len(windows)):
        session.release(slot)


def negative_logarithms(logits: Logits, tokens: Sequence[int]) -> list[float]:
    """Of the probability of one token in each row."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    of_tokens = shifted[np.arange(len(tokens)), list(tokens)]
    losses: list[float] = (np.log(np.exp(shifted).sum(axis=1)) - of_tokens).tolist()
    return losses
