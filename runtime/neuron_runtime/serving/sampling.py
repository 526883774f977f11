"""Chooses the next token from logits. Pure: numpy in, a token out; all randomness comes from the request's seed."""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

TokenLogits = npt.NDArray[np.floating]
"""float[vocabulary]: those of one token."""


_IMPOSSIBLE = -9999.0
_SMALLEST_TEMPERATURE = 1e-6
_BLOCK = 256
_BELOW_ONE = 1.0 - 2.0**-52


class NotFinite(Exception):
    """The logits are no numbers: whatever would be drawn from them would mean nothing."""


class ConstraintBroken(Exception):
    """An answer cannot keep the form that it was asked for. Says nothing of the answer's text."""


@dataclass(frozen=True)
class SamplingParameters:
    """OpenAI's sampling parameters, already checked."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Share of the probability mass that the candidates must cover, in (0, 1]."""
    top_k: int = 0
    """Most candidates; 0: all tokens."""
    presence_penalty: float = 0.0
    """Taken off the logits of tokens that the answer holds."""
    frequency_penalty: float = 0.0
    """Taken off the logits of tokens once for each time that the answer holds them."""
    seed: int | None = None
    """Any integer. Without one, every request draws differently."""


@dataclass(frozen=True)
class TokenLogprobs:
    """Natural logarithms of probabilities, as the model gives them: before temperature, penalties and constraints."""

    chosen: float
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens, with the likeliest first."""


class Constraint(Protocol):
    """What one answer is held to."""

    def allowed(self) -> npt.NDArray[np.bool_]:
        """bool[tokens]: which may follow; none beyond its end may."""

    def take(self, token: int) -> None:
        """This token follows."""

    @property
    def complete(self) -> bool:
        """Whether nothing may follow."""


class Sampler:
    """Draws the tokens of one request, in order. Equal seeds and equal logits give equal tokens."""

    def __init__(self, parameters: SamplingParameters, constraint: Constraint | None = None) -> None:
        self._parameters = parameters
        self._constraint = constraint
        seed = parameters.seed
        self._random = np.random.Generator(np.random.PCG64(None if seed is None else seed % 2**64))
        self._penalized = parameters.presence_penalty != 0.0 or parameters.frequency_penalty != 0.0
        self._said: Counter[int] = Counter()

    def choose(self, logits: TokenLogits, likeliest: int) -> int:
        """Index of the chosen token; `likeliest` is that of the largest logit. Raises NotFinite."""
        # argmax finds a NaN where there is one.
        if not np.isfinite(logits[likeliest]):
            raise NotFinite(f"the largest of the logits is {logits[likeliest]}")
        if self._constraint is None:
            return self._choose(logits, likeliest)
        logits = constrained(logits, self._constraint.allowed())
        likeliest = int(np.argmax(logits))
        if np.isneginf(logits[likeliest]):
            raise ConstraintBroken("the model rules out every token that the answer's form allows")
        token = self._choose(logits, likeliest)
        self._constraint.take(token)
        return token

    @property
    def complete(self) -> bool:
        """Whether the answer has the form that it is held to, so that nothing may follow."""
        return self._constraint is not None and self._constraint.complete

    def _choose(self, logits: TokenLogits, likeliest: int) -> int:
        if not self._penalized:
            return self._draw(logits, likeliest)
        logits = self._with_penalties(logits)
        token = self._draw(logits, int(np.argmax(logits)))
        self._said[token] += 1
        return token

    def _with_penalties(self, logits: TokenLogits) -> TokenLogits:
        if not self._said:
            return logits
        tokens = np.fromiter(self._said.keys(), np.int64)
        counts = np.fromiter(self._said.values(), np.float64)
        lowered = logits.astype(np.float64)
        lowered[tokens] -= self._parameters.presence_penalty + self._parameters.frequency_penalty * counts
        return lowered

    def _draw(self, logits: TokenLogits, likeliest: int) -> int:
        parameters = self._parameters
        if parameters.temperature == 0.0:
            return likeliest
        kept = None
        if 0 < parameters.top_k < len(logits):
            kept = np.argpartition(-logits, parameters.top_k - 1)[: parameters.top_k]
            logits = logits[kept]
        weights = _weights(logits, parameters.temperature)
        if parameters.top_p < 1.0:
            candidates = nucleus(weights / weights.sum(dtype=np.float64), parameters.top_p)
            weights = weights[candidates]
            kept = candidates if kept is None else kept[candidates]
        chosen = pick(weights, self._random.random())
        return chosen if kept is None else int(kept[chosen])


def constrained(logits: TokenLogits, allowed: npt.NDArray[np.bool_]) -> TokenLogits:
    """Logits of which only those that are allowed are left."""
    allowed = allowed[: len(logits)]
    left = np.full_like(logits, -np.inf)
    np.copyto(left[: len(allowed)], logits[: len(allowed)], where=allowed)
    return left


def nucleus(probabilities: npt.NDArray[np.floating], top_p: float) -> npt.NDArray[np.intp]:
    """Indices of the smallest set of most probable tokens whose probabilities reach `top_p`."""
    if top_p >= 1.0:
        return np.arange(len(probabilities))
    # All tokens at or below this floor together have no more than 1 - top_p, so none of them is in the nucleus. It
    # leaves few of them to sort, where a sort of a whole vocabulary takes as long as a step of a small model.
    floor = (1.0 - top_p) / len(probabilities)
    # Where all are equally probable rounding can put every one of them at the floor: the most probable one stays.
    likely = np.flatnonzero((probabilities > floor) | (probabilities == probabilities.max()))
    order = likely[np.argsort(-probabilities[likely], kind="stable")]
    reached = int(np.searchsorted(np.cumsum(probabilities[order]), top_p, side="left"))
    return order[: reached + 1]


def pick(weights: npt.NDArray[np.floating], draw: float) -> int:
    """Index that holds the share `draw` of all weights, counted from the first."""
    # Sums of blocks, and then one block: a running sum over a whole vocabulary takes longer than all else here.
    starts = np.arange(0, len(weights), _BLOCK)
    blocks = np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)
    # Below the sums whatever rounding does, so that nothing without weight is ever pointed at.
    wanted = min(draw, _BELOW_ONE) * blocks[-1]
    block = int(np.searchsorted(blocks, wanted, side="right"))
    before = blocks[block - 1] if block else 0.0
    within = np.cumsum(weights[starts[block] : starts[block] + _BLOCK], dtype=np.float64)
    position = int(np.searchsorted(within, min(wanted - before, within[-1] * _BELOW_ONE), side="right"))
    return int(starts[block]) + position


def token_logprobs(logits: TokenLogits, token: int, alternatives: int) -> TokenLogprobs:
    """What the model thought of a token, and of so many of the likeliest ones."""
    values = logits.astype(np.float64)
    values -= values.max()
    values -= np.log(np.exp(values).sum())
    # JSON knows no infinity; OpenAI's API says this of tokens that cannot be.
    np.maximum(values, _IMPOSSIBLE, out=values)
    count = min(alternatives, len(values))
    likeliest = np.argpartition(-values, count - 1)[:count] if count else np.empty(0, np.intp)
    top = sorted(((int(index), float(values[index])) for index in likeliest), key=lambda entry: -entry[1])
    return TokenLogprobs(float(values[token]), tuple(top))


def _weights(logits: TokenLogits, temperature: float) -> npt.NDArray[np.floating]:
    """Probabilities but for a factor. In the logits' own precision: in float64 this takes longer than small models."""
    # The maximum is taken off before the division: a temperature close to 0 must not overflow to inf - inf.
    weights: npt.NDArray[np.floating] = logits - logits.max()
    # Dividing by less could overflow; what is not the maximum has no weight long before.
    weights /= max(temperature, _SMALLEST_TEMPERATURE)
    np.exp(weights, out=weights)
    return weights
