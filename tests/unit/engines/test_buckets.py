"""Which graph a step takes."""

from __future__ import annotations

import pytest

from neuron_runtime.engines.base import PrefillRow
from neuron_runtime.engines.cpu_encoder_session import EncodeBucket, smallest_encode_bucket
from neuron_runtime.engines.cpu_session import Bucket, smallest_bucket

_DECODE = [Bucket(1, 1, 64), Bucket(1, 1, 512), Bucket(4, 1, 64), Bucket(4, 1, 512)]
_PREFILL = [Bucket(1, 16, 512), Bucket(1, 64, 512)]


@pytest.mark.parametrize(
    ("positions", "chosen"),
    [
        ([0], (1, 1, 64)),
        ([63], (1, 1, 64)),
        ([64], (1, 1, 512)),
        ([3, 63], (4, 1, 64)),
        ([3, 64], (4, 1, 512)),
        ([0, 1, 2, 511], (4, 1, 512)),
    ],
)
def test_a_decode_step_takes_the_smallest_graph_of_its_rows_and_its_longest_context(
    positions: list[int], chosen: tuple[int, int, int]
) -> None:
    rows = [PrefillRow(slot, [7], position) for slot, position in enumerate(positions)]
    assert smallest_bucket(_DECODE, rows) == chosen


@pytest.mark.parametrize(("count", "chosen"), [(1, 16), (16, 16), (17, 64), (64, 64)])
def test_a_prefill_step_takes_the_shortest_graph_that_holds_its_tokens(count: int, chosen: int) -> None:
    assert smallest_bucket(_PREFILL, [PrefillRow(0, [7] * count, 0)]).tokens == chosen


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [PrefillRow(0, [], 0)],
        [PrefillRow(0, [7] * 65, 0)],
        [PrefillRow(0, [7] * 16, 500)],
        [PrefillRow(0, [7], 0), PrefillRow(1, [7], 0)],
    ],
)
def test_what_no_graph_takes_is_refused(rows: list[PrefillRow]) -> None:
    with pytest.raises(ValueError, match="the graphs take 1 of 16, 1 of 64"):
        smallest_bucket(_PREFILL, rows)


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [([1], (16, 1)), ([16], (16, 1)), ([17], (32, 1)), ([3, 16], (16, 2)), ([17, 3], (32, 2)), ([32, 32], (32, 2))],
)
def test_texts_take_the_shortest_graph_that_holds_them_and_of_these_the_narrowest(
    lengths: list[int], chosen: tuple[int, int]
) -> None:
    buckets = [EncodeBucket(16, 1), EncodeBucket(16, 2), EncodeBucket(32, 1), EncodeBucket(32, 2)]
    assert smallest_encode_bucket(buckets, [[7] * length for length in lengths]) == chosen
