"""A module's matrices, packed, under one name each: in float32, or in int8 with the scales of their columns."""

import torch
from torch import Tensor, nn

from neuron_runtime.contract.request import Quantization

from .packed_int8 import packed_int8_columns, packed_int8_linear
from .packed_linear import packed_columns, packed_linear, packed_shape

_SCALES = "_scales"


class PackedMatrices(nn.Module):
    """A module whose matrices are buffers of undefined content."""

    def __init__(self, quantization: Quantization) -> None:
        super().__init__()
        self._element = torch.int8 if quantization is Quantization.INT8 else torch.float32
        self._outputs = dict[str, int]()

    def add_matrix(self, name: str, inputs: int, outputs: int) -> None:
        """Register a matrix [inputs, outputs]."""
        self._outputs[name] = outputs
        self.register_buffer(name, torch.empty(packed_shape(inputs, outputs), dtype=self._element))
        if self._element is torch.int8:
            self.register_buffer(f"{name}{_SCALES}", torch.empty(outputs))

    def times(self, x: Tensor, name: str) -> Tensor:
        """x[..., inputs] times the matrix of that name: float32[..., outputs]."""
        weights: Tensor = getattr(self, name)
        if self._element is torch.int8:
            return packed_int8_linear(x, weights, getattr(self, f"{name}{_SCALES}"))
        return packed_linear(x, weights, self._outputs[name])

    def columns(self, name: str, columns: Tensor) -> Tensor:
        """Columns of the matrix of that name: float32[*columns, inputs]."""
        weights: Tensor = getattr(self, name)
        if self._element is torch.int8:
            return packed_int8_columns(weights, getattr(self, f"{name}{_SCALES}"), columns)
        return packed_columns(weights, columns)


def scaled_matrix(buffer: str) -> str | None:
    """The name of the matrix that a buffer of scales belongs to; None for another buffer."""
    return buffer.removesuffix(_SCALES) if buffer.endswith(_SCALES) else None
