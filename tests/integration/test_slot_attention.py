"""Attention to slots as compiled graphs run it, from a real compiler, held against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from neuron_runtime.engines.cpu_toolchain import VECTOR_BITS, load_mismatches
from neuron_runtime.engines.slot_attention import SLOT_ATTENTION, slot_attention
from support.graph_kernel import kernel_function

_SLOTS, _CONTEXT = 3, 70


@pytest.fixture(scope="module", params=sorted(VECTOR_BITS))
def attention(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    march: str = request.param
    if any(march in mismatch for mismatch in load_mismatches({"march": march})):
        pytest.skip(f"this CPU is no {march}")
    return kernel_function(SLOT_ATTENTION, tmp_path_factory.mktemp("kernel"), march)


@pytest.mark.parametrize("size", [64, 96, 128, 20])
@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (6, 2), (1, 1)])
def test_each_row_attends_to_its_slot_up_to_its_position(
    attention: Callable[..., Any], size: int, heads: int, shared: int
) -> None:
    """Several rows of one slot, lengths around the width of vectors and of blocks, the last position, and a pad."""
    generator = torch.Generator().manual_seed(size + heads)
    slots = torch.tensor([2, 0, 0, 1, 1, 1, 2, 0])
    positions = torch.tensor([0, 6, 7, 8, 31, 32, _CONTEXT - 1, _CONTEXT])
    queries = 3 * torch.randn(len(slots), heads, size, generator=generator)
    keys, values = (torch.randn(_SLOTS, _CONTEXT + 1, shared, size, generator=generator) for _ in range(2))
    expected = slot_attention(queries, keys, values, slots, positions)
    arrays = [tensor.numpy() for tensor in (queries, keys, values, slots, positions)]
    found = torch.from_numpy(attention(*arrays, shape=tuple(queries.shape)))
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6)
    assert not found[-1].any()


def test_what_lies_beyond_a_position_is_not_read(attention: Callable[..., Any]) -> None:
    """Not even multiplied by nothing: what a slot held before may be no number."""
    keys, values = (torch.full((1, _CONTEXT + 1, 1, 64), float("nan")) for _ in range(2))
    keys[:, :9], values[:, :9] = 1.0, 2.0
    arrays = [keys.numpy(), values.numpy(), torch.tensor([0]).numpy(), torch.tensor([8]).numpy()]
    found = attention(torch.ones(1, 1, 64).numpy(), *arrays, shape=(1, 1, 64))
    torch.testing.assert_close(torch.from_numpy(found), torch.full((1, 1, 64), 2.0))


def test_very_different_scores_leave_numbers(attention: Callable[..., Any]) -> None:
    keys, values = torch.zeros(1, _CONTEXT + 1, 1, 64), torch.zeros(1, _CONTEXT + 1, 1, 64)
    keys[0, 5], values[0, 5] = 1000.0, 1.0
    arrays = [keys.numpy(), values.numpy(), torch.tensor([0]).numpy(), torch.tensor([20]).numpy()]
    found = attention(torch.full((1, 1, 64), 100.0).numpy(), *arrays, shape=(1, 1, 64))
    torch.testing.assert_close(torch.from_numpy(found), torch.ones(1, 1, 64))
