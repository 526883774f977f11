"""Weights in int8: one float32 for each column of a matrix says what a one of it stands for. Activations stay float32.

The product is one of our own, which reads the int8 and nothing else. torch's would take the weights as float32, written
to memory first; its product for int8 weights rounds activations to bfloat16, or multiplies one number at a time.
"""

import torch
from torch import Tensor

from .graph_kernels import Kernel
from .packed_linear import packed_columns

_LARGEST = 127


def int8_scales(matrix: Tensor) -> Tensor:
    """What a one of each column stands for, float32[outputs], so that a column's largest number becomes 127 or -127.

    Raises ValueError for numbers that are not finite: int8 could not show them.
    """
    largest = matrix.abs().amax(dim=0)
    if not largest.isfinite().all():
        raise ValueError("a weight is not a finite number")
    return torch.where(largest > 0, largest / _LARGEST, 1.0)


def to_int8(matrix: Tensor) -> Tensor:
    """A matrix [inputs, outputs] in units of its columns' scales, rounded to the nearest int8."""
    return (matrix / int8_scales(matrix)).round().to(torch.int8)


def packed_int8_columns(weights: Tensor, scales: Tensor, columns: Tensor) -> Tensor:
    """Columns of a packed matrix as float32, [*columns, inputs]."""
    return packed_columns(weights, columns).to(scales.dtype) * scales[columns].unsqueeze(-1)


def packed_int8_linear(x: Tensor, weights: Tensor, scales: Tensor) -> Tensor:
    """x[..., inputs] times a packed matrix of int8[inputs, outputs], times scales[outputs]."""
    rows, outputs = x.reshape(-1, x.shape[-1]).contiguous(), scales.shape[0]
    product: Tensor = _product(rows, weights, scales, outputs)
    return product.view(*x.shape[:-1], outputs)


@torch.library.custom_op("neuron_runtime::packed_int8_linear", mutates_args=())
def _product(x: Tensor, weights: Tensor, scales: Tensor, outputs: int) -> Tensor:
    return x @ weights.transpose(0, 1).flatten(1)[:, :outputs].to(x.dtype) * scales


@_product.register_fake
def _(x: Tensor, weights: Tensor, scales: Tensor, outputs: int) -> Tensor:
    return x.new_empty(x.shape[0], outputs)


PACKED_INT8_LINEAR = Kernel(
    torch.ops.neuron_runtime.packed_int8_linear.default,
    """AOTITorchError aoti_torch_cpu_packed_int8_linear(
        AtenTensorHandle x, AtenTensorHandle weights, AtenTensorHandle scales, int64_t outputs, AtenTensorHandle* result
    )""",
    "packed_linear.cpp",
)
