"""Attention of tokens to what their slots hold: the operator that stands for it in a graph.

torch's attention takes caches in the order of its rows, at the length of the longest: so each step would copy what all
slots could hold. Ours reads what a slot holds, where it lies. `slot_attention.cpp` is what a compiled graph runs.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .graph_kernels import Kernel


@torch.library.custom_op("neuron_runtime::slot_attention", mutates_args=())
def slot_attention(queries: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
    """float32[rows, heads, size]: what each row's heads take of its slot's values up to its own position.

    queries: float32[rows, heads, size]; keys and values: float32[slots, context + 1, shared heads, size]; slots and
    positions: int64[rows]. Of a row at the position `context`, which is a pad, zeros.
    """
    group = queries.shape[1] // keys.shape[2]
    context = keys.shape[1] - 1
    seen = torch.arange(context) <= positions[:, None]
    attended = functional.scaled_dot_product_attention(
        queries.unsqueeze(2),
        keys[slots, :context].repeat_interleave(group, 2).transpose(1, 2),
        values[slots, :context].repeat_interleave(group, 2).transpose(1, 2),
        attn_mask=seen[:, None, None],
    )
    return attended.squeeze(2) * (positions < context)[:, None, None]


@slot_attention.register_fake
def _(queries: Tensor, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
    return torch.empty_like(queries)


SLOT_ATTENTION = Kernel(
    torch.ops.neuron_runtime.slot_attention.default,
    """AOTITorchError aoti_torch_cpu_slot_attention(
        AtenTensorHandle queries, AtenTensorHandle keys, AtenTensorHandle values, AtenTensorHandle slots,
        AtenTensorHandle positions, AtenTensorHandle* result
    )""",
    "slot_attention.cpp",
)
