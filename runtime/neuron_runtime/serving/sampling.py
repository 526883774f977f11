"""Chooses the next token from logits. Pure: numpy in, a token out; all randomness comes from the request's seed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TokenLogits = npt.NDArray[np.floating]
"""float[vocabulary]: those of one token."""


class NotFinite(Exception):
    """The logits are no numbers: whatever would be drawn from them would mean nothing."""


@dataclass(frozen=True)
class SamplingParameters:
    """OpenAI's sampling parameters, already checked."""

    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Share of the probability mass that the candidates must cover, in (0, 1]."""
    seed: int | None = None
    """Any integer. Without one, every request draws differently."""


class Sampler:
    """Draws the tokens of one request, in order. Equal seeds and equal logits give equal tokens."""

    def __init__(self, parameters: SamplingParameters) -> None:
        self._parameters = parameters
        seed = parameters.seed
        self._random = np.random.Generator(np.random.PCG64(None if seed is None else seed % 2**64))

    def choose(self, logits: TokenLogits, likeliest: int) -> int:
        """Index of the chosen token; `likeliest` is that of the largest logit. Raises NotFinite."""
        # argmax finds a NaN where there is one.
        if not np.isfinite(logits[likeliest]):
            raise NotFinite(f"the largest of the logits is {logits[likeliest]}")
        if self._parameters.temperature == 0.0:
            return likeliest
        probabilities = _probabilities(logits, self._parameters.temperature)
        candidates = nucleus(probabilities, self._parameters.top_p)
        cumulated = np.cumsum(probabilities[candidates])
        # Drawn below the cumulated total and not below 1, so that rounding cannot point past the last candidate.
        draw = self._random.random() * cumulated[-1]
        chosen = min(int(np.searchsorted(cumulated, draw, side="right")), len(candidates) - 1)
        return int(candidates[chosen])


def nucleus(probabilities: npt.NDArray[np.float64], top_p: float) -> npt.NDArray[np.intp]:
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


def _probabilities(logits: TokenLogits, temperature: float) -> npt.NDArray[np.float64]:
    # The maximum is taken off before the division: a temperature close to 0 must not overflow to inf - inf.
    shifted = (logits.astype(np.float64) - float(np.max(logits))) / temperature
    weights = np.exp(shifted)
    normalized: npt.NDArray[np.float64] = weights / weights.sum()
    return normalized
