"""The product that compiled graphs call, from a real compiler, held against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from neuron_runtime.engines.cpu_toolchain import VECTOR_BITS, load_mismatches
from neuron_runtime.engines.packed_linear import PACKED_LINEAR, pack, packed_columns, packed_linear
from support.graph_kernel import Array, kernel_function

Product = Callable[[Array, Array, int], Array]

_ROWS = (1, 2, 4, 5, 6, 7, 8, 12, 13, 64)


@pytest.fixture(scope="module", params=sorted(VECTOR_BITS))
def product(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """The kernel as a library of its own."""
    march: str = request.param
    if any(march in mismatch for mismatch in load_mismatches({"march": march})):
        pytest.skip(f"this CPU is no {march}")
    function = kernel_function(PACKED_LINEAR, tmp_path_factory.mktemp("kernel"), march)
    return lambda x, weights, outputs: function(x, weights, outputs, shape=(len(x), outputs))


@pytest.mark.parametrize("rows", _ROWS)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 15), (64, 16), (40, 17), (96, 260)])
def test_it_is_the_product(product: Product, rows: int, inputs: int, outputs: int) -> None:
    """Rows for each block that registers hold, and columns that do not fill the last panel."""
    generator = np.random.default_rng(rows)
    x = generator.standard_normal((rows, inputs), np.float32)
    matrix = generator.standard_normal((inputs, outputs), np.float32)
    weights = pack(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(product(x, weights, outputs), x @ matrix, rtol=1e-5, atol=1e-5)


def test_the_operator_means_the_same_without_a_compiler() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, x = torch.randn(40, 17, generator=generator), torch.randn(2, 3, 40, generator=generator)
    torch.testing.assert_close(packed_linear(x, pack(matrix), 17), x @ matrix)


def test_columns_of_a_packed_matrix_are_found() -> None:
    matrix = torch.arange(5 * 37.0).view(5, 37)
    columns = torch.tensor([[0, 15, 16], [31, 32, 36]])
    assert packed_columns(pack(matrix), columns).equal(matrix.t()[columns])
