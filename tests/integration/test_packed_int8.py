"""The product with int8 weights that compiled graphs call, from a real compiler, held against numpy in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neuron_runtime.engines.cpu_toolchain import VECTOR_BITS, load_mismatches
from neuron_runtime.engines.packed_int8 import PACKED_INT8_LINEAR, packed_int8_columns, packed_int8_linear
from neuron_runtime.engines.packed_linear import pack
from support.graph_kernel import Array, kernel_function

Product = Callable[[Array, npt.NDArray[Any], Array], Array]


@pytest.fixture(scope="module", params=sorted(VECTOR_BITS))
def product(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """The kernel as a library of its own."""
    march: str = request.param
    if any(march in mismatch for mismatch in load_mismatches({"march": march})):
        pytest.skip(f"this CPU is no {march}")
    function = kernel_function(PACKED_INT8_LINEAR, tmp_path_factory.mktemp("kernel"), march)
    return lambda x, weights, scales: function(x, weights, scales, len(scales), shape=(len(x), len(scales)))


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 12, 13, 64])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (3, 15), (64, 16), (41, 17), (98, 260)])
def test_each_column_is_taken_times_its_scale(product: Product, rows: int, inputs: int, outputs: int) -> None:
    """Also for inputs that are no multiple of how many are taken at once, and for every number that an int8 can be."""
    generator = np.random.default_rng(rows)
    x = generator.standard_normal((rows, inputs), np.float32)
    matrix = generator.integers(-128, 128, (inputs, outputs), np.int8)
    scales = generator.uniform(0.001, 0.1, outputs).astype(np.float32)
    expected = x.astype(np.float64) @ matrix.astype(np.float64) * scales
    weights = pack(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(product(x, weights, scales), expected, rtol=1e-5, atol=1e-4)


def _matrix() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-128, 128, (40, 37), dtype=torch.int8, generator=generator), torch.rand(
        37, generator=generator
    )


def test_the_operator_means_the_same_without_a_compiler() -> None:
    (matrix, scales), x = _matrix(), torch.linspace(-1, 1, 240).view(2, 3, 40)
    torch.testing.assert_close(packed_int8_linear(x, pack(matrix), scales), x @ (matrix * scales), rtol=1e-5, atol=1e-3)


def test_columns_of_a_packed_matrix_are_found() -> None:
    matrix, scales = _matrix()
    columns = torch.tensor([[0, 15, 16], [31, 32, 36]])
    assert packed_int8_columns(pack(matrix), scales, columns).equal((matrix * scales).t()[columns])
