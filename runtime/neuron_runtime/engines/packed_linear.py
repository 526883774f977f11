"""The product of a graph's rows with weights in panels: its layout, and the operator that stands for it in a graph.

torch's products of two to eight rows take several times as long as reading the weights once does. Ours reads them once,
in the order in which they lie in memory. `packed_linear.cpp` is what a compiled graph runs.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .graph_kernels import Kernel

PANEL = 16
"""Columns that lie side by side for each input."""


def packed_shape(inputs: int, outputs: int) -> tuple[int, int, int]:
    """Of a matrix [inputs, outputs]: [panels, inputs, 16]."""
    return -(-outputs // PANEL), inputs, PANEL


def pack(matrix: Tensor) -> Tensor:
    """A matrix [inputs, outputs] of any type in panels [panels, inputs, 16]; the last is filled up with zeros."""
    inputs, outputs = matrix.shape
    filled = functional.pad(matrix, (0, -outputs % PANEL))
    return filled.view(inputs, -1, PANEL).transpose(0, 1).contiguous()


def packed_columns(weights: Tensor, columns: Tensor) -> Tensor:
    """Columns of a packed matrix, [*columns, inputs]: rows of an embedding whose transpose is the head."""
    return weights[columns // PANEL, :, columns % PANEL]


def packed_linear(x: Tensor, weights: Tensor, outputs: int) -> Tensor:
    """x[..., inputs] times a packed matrix [inputs, outputs]."""
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    product: Tensor = _product(rows, weights, outputs)
    return product.view(*x.shape[:-1], outputs)


@torch.library.custom_op("neuron_runtime::packed_linear", mutates_args=())
def _product(x: Tensor, weights: Tensor, outputs: int) -> Tensor:
    return x @ weights.transpose(0, 1).flatten(1)[:, :outputs]


@_product.register_fake
def _(x: Tensor, weights: Tensor, outputs: int) -> Tensor:
    return x.new_empty(x.shape[0], outputs)


PACKED_LINEAR = Kernel(
    torch.ops.neuron_runtime.packed_linear.default,
    """AOTITorchError aoti_torch_cpu_packed_linear(
        AtenTensorHandle x, AtenTensorHandle weights, int64_t outputs, AtenTensorHandle* result
    )""",
    "packed_linear.cpp",
)
