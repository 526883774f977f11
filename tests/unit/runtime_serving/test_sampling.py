"""Sampling: greedy, seeded, within the nucleus, distributed as the softmax says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_runtime.serving.sampling import NotFinite, Sampler, SamplingParameters, nucleus, pick, token_logprobs


def _logits(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities, dtype=np.float32))


def _draw(sampler: Sampler, logits: np.ndarray) -> int:
    return sampler.choose(logits, int(np.argmax(logits)))


def test_greedy_takes_the_maximum() -> None:
    sampler = Sampler(SamplingParameters(temperature=0.0))
    assert _draw(sampler, np.array([0.0, 1.0, 3.0, 1.0], dtype=np.float32)) == 2


def test_equal_seeds_draw_equal_tokens_and_others_do_not() -> None:
    logits = np.zeros(1000, dtype=np.float32)

    def draw(seed: int) -> list[int]:
        sampler = Sampler(SamplingParameters(seed=seed))
        return [_draw(sampler, logits) for _ in range(20)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


@pytest.mark.parametrize("seed", [-1, 2**64 + 3, 0])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert _draw(Sampler(SamplingParameters(seed=seed)), _logits(1.0)) == 0


def test_frequencies_follow_the_softmax_at_the_temperature() -> None:
    sampler = Sampler(SamplingParameters(temperature=0.5, seed=1))
    drawn = np.bincount([_draw(sampler, _logits(0.5, 0.3, 0.2)) for _ in range(20_000)], minlength=3) / 20_000
    expected = np.array([0.25, 0.09, 0.04]) / 0.38
    assert np.allclose(drawn, expected, atol=0.015)


def test_tokens_outside_of_the_nucleus_are_never_drawn() -> None:
    sampler = Sampler(SamplingParameters(top_p=0.6, seed=1))
    assert {_draw(sampler, _logits(0.1, 0.4, 0.15, 0.35)) for _ in range(500)} == {1, 3}


def test_nucleus_is_that_of_a_full_sort() -> None:
    random = np.random.default_rng(3)
    for top_p in (0.01, 0.3, 0.9, 0.999):
        probabilities = random.dirichlet(np.full(2000, 0.05))
        order = np.argsort(-probabilities, kind="stable")
        size = int(np.searchsorted(np.cumsum(probabilities[order]), top_p)) + 1
        assert nucleus(probabilities, top_p).tolist() == order[:size].tolist()


def test_nucleus_of_equal_probabilities_is_not_empty() -> None:
    assert len(nucleus(np.full(4, 0.25), 0.999999)) == 4
    assert len(nucleus(np.full(4, 0.25), 0.0001)) == 1


@pytest.mark.parametrize("size", [3, 7, 49152])
def test_a_tiny_nucleus_holds_the_most_probable_token(size: int) -> None:
    for top_p in (1e-300, 1e-17, 1e-9):
        assert len(nucleus(np.full(size, 1.0 / size), top_p)) == 1
    assert _draw(Sampler(SamplingParameters(top_p=1e-300, seed=1)), np.zeros(size, dtype=np.float32)) == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [[0.0, np.nan], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_logits_that_are_no_numbers_are_refused(logits: list[float], temperature: float) -> None:
    with pytest.raises(NotFinite):
        _draw(Sampler(SamplingParameters(temperature=temperature, seed=1)), np.array(logits, dtype=np.float32))


def test_a_tiny_temperature_does_not_overflow() -> None:
    sampler = Sampler(SamplingParameters(temperature=1e-6, seed=1))
    with np.errstate(over="raise", invalid="raise"):
        assert _draw(sampler, np.array([-1e4, 1e4, 9.9e3], dtype=np.float32)) == 1


def test_top_k_leaves_the_likeliest() -> None:
    sampler = Sampler(SamplingParameters(top_k=2, seed=1))
    assert {_draw(sampler, _logits(0.1, 0.4, 0.15, 0.35)) for _ in range(500)} == {1, 3}
    everything = Sampler(SamplingParameters(top_k=50, seed=1))
    assert {_draw(everything, _logits(0.1, 0.4, 0.15, 0.35)) for _ in range(500)} == {0, 1, 2, 3}


def test_penalties_are_for_what_the_answer_holds() -> None:
    logits = np.array([3.0, 2.5, 0.0], dtype=np.float32)
    presence = Sampler(SamplingParameters(temperature=0.0, presence_penalty=1.0))
    # Both are lowered once, and then the first is ahead again.
    assert [_draw(presence, logits) for _ in range(4)] == [0, 1, 0, 0]
    frequency = Sampler(SamplingParameters(temperature=0.0, frequency_penalty=1.0))
    assert [_draw(frequency, logits) for _ in range(6)] == [0, 1, 0, 1, 0, 1]
    rewarded = Sampler(SamplingParameters(temperature=0.0, presence_penalty=-2.0))
    assert [_draw(rewarded, logits) for _ in range(3)] == [0, 0, 0]
    assert logits.tolist() == [3.0, 2.5, 0.0]


def test_logprobs_are_those_of_the_model() -> None:
    told = token_logprobs(_logits(0.1, 0.4, 0.2, 0.3), 0, 2)
    assert np.isclose(told.chosen, np.log(0.1))
    assert [token for token, _ in told.top] == [1, 3]
    assert np.allclose([logprob for _, logprob in told.top], np.log([0.4, 0.3]))
    assert token_logprobs(_logits(0.5, 0.5), 1, 0).top == ()
    assert len(token_logprobs(_logits(0.5, 0.5), 1, 20).top) == 2


def test_logprobs_are_numbers_even_of_what_cannot_be() -> None:
    assert token_logprobs(np.array([0.0, -np.inf], dtype=np.float32), 1, 2).chosen == -9999.0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=600).filter(any), st.floats(0, 1))
def test_a_share_of_the_weights_is_where_a_running_sum_has_it(weights: list[int], draw: float) -> None:
    total = sum(weights)
    picked = pick(np.array(weights, dtype=np.float32), draw)
    assert weights[picked] > 0
    # Whole numbers are summed exactly; the share itself is rounded.
    assert sum(weights[:picked]) <= draw * total * (1 + 1e-12)
    assert sum(weights[: picked + 1]) >= draw * total * (1 - 1e-12)
