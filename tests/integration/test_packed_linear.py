"""The product that compiled graphs call, from a real compiler, held against numpy."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neuron_runtime.engines.aot_inductor import Tensor
from neuron_runtime.engines.cpu_toolchain import VECTOR_BITS, compiler_command, load_mismatches
from neuron_runtime.engines.packed_linear import build_kernels, pack, packed_columns, packed_linear

Array = npt.NDArray[np.float32]
Product = Callable[[Array, Array, int], Array]

_ROWS = (1, 2, 4, 5, 6, 7, 8, 12, 13, 64)


@pytest.fixture(scope="module", params=sorted(VECTOR_BITS))
def product(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """The kernel as a library of its own."""
    march: str = request.param
    if any(march in mismatch for mismatch in load_mismatches({"march": march})):
        pytest.skip(f"this CPU is no {march}")
    folder = tmp_path_factory.mktemp("kernels")
    build_kernels(folder, march)
    (kernels,) = folder.iterdir()
    path = folder / "kernels.so"
    subprocess.run([compiler_command(), "-shared", "-fopenmp", str(kernels), "-o", str(path)], check=True)
    Tensor(np.zeros(1, np.float32))  # loads torch's library, whose functions the kernel calls
    function = ctypes.CDLL(str(path)).aoti_torch_cpu_packed_linear
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.POINTER(ctypes.c_void_p)]

    def call(x: Array, weights: Array, outputs: int) -> Array:
        handle, data = ctypes.c_void_p(), ctypes.c_void_p()
        left, right = Tensor(x), Tensor(weights)
        assert function(left.handle, right.handle, outputs, ctypes.byref(handle)) == 0
        torch_library = ctypes.CDLL(None)
        torch_library.aoti_torch_get_data_ptr(handle, ctypes.byref(data))
        shape = (x.shape[0], outputs)
        memory = (ctypes.c_float * (shape[0] * shape[1])).from_address(data.value or 0)
        result = np.frombuffer(memory, np.float32).reshape(shape).copy()
        torch_library.aoti_torch_delete_tensor_object(handle)
        return result

    return call


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
