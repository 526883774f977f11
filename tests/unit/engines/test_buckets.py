"""Which graph a step takes."""

from __future__ import annotations

import pytest

from neuron_runtime.engines.base import PrefillRow
from neuron_runtime.engines.cpu_encoder_session import EncodeBucket, smallest_encode_bucket
from neuron_runtime.engines.cpu_session import Bucket, smallest_bucket

_BUCKETS = [Bucket(1, 1), Bucket(4, 4), Bucket(12, 12), Bucket(64, 1)]


@pytest.mark.parametrize(
    ("counts", "chosen"),
    [
        ([1], (1, 1)),
        ([1, 1], (4, 4)),
        ([2], (4, 4)),
        ([1, 1, 1, 1], (4, 4)),
        ([1, 1, 3], (12, 12)),
        ([12], (12, 12)),
        ([13], (64, 1)),
        ([64], (64, 1)),
    ],
)
def test_a_step_takes_the_smallest_graph_of_its_tokens_and_rows(counts: list[int], chosen: tuple[int, int]) -> None:
    rows = [PrefillRow(slot, [7] * count, 0) for slot, count in enumerate(counts)]
    assert smallest_bucket(_BUCKETS, rows) == chosen


@pytest.mark.parametrize("counts", [[], [0], [1, 0], [65], [12, 1], [1] * 13])
def test_what_no_graph_takes_is_refused(counts: list[int]) -> None:
    rows = [PrefillRow(slot, [7] * count, 0) for slot, count in enumerate(counts)]
    with pytest.raises(ValueError, match="the graphs take 1 of 1, 4 of 4, 12 of 12, 1 of 64 tokens together"):
        smallest_bucket(_BUCKETS, rows)


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [([1], (16, 1)), ([16], (16, 1)), ([17], (32, 1)), ([3, 16], (16, 2)), ([17, 3], (32, 2)), ([32, 32], (32, 2))],
)
def test_texts_take_the_shortest_graph_that_holds_them_and_of_these_the_narrowest(
    lengths: list[int], chosen: tuple[int, int]
) -> None:
    buckets = [EncodeBucket(16, 1), EncodeBucket(16, 2), EncodeBucket(32, 1), EncodeBucket(32, 2)]
    assert smallest_encode_bucket(buckets, [[7] * length for length in lengths]) == chosen
