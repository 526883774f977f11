"""Turns a Llama checkpoint into the weights that its graphs take: fused, in panels, in one file."""

from pathlib import Path

import torch
from torch import Tensor

from neuron_runtime.contract.request import Quantization

from .checkpoint import Checkpoint, unreadable
from .llama import Llama, rotation_tables
from .llama_config import LlamaConfig
from .packed_int8 import int8_scales, to_int8
from .packed_linear import pack
from .packed_matrices import scaled_matrix
from .weight_file import write_weights

_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
# Columns of one product, side by side in this order.
_PROJECTIONS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


def write_llama_weights(
    config: LlamaConfig, context_length: int, quantization: Quantization, source: Path, path: Path
) -> None:
    """Write the weights of `Llama(config, context_length, quantization)`.

    Raises ContainerFailure(UNSUPPORTED_MODEL).
    """
    with torch.device("meta"):
        wanted = Llama(config, context_length, quantization).state_dict()
    tables = dict(zip(("cosine", "sine"), rotation_tables(config, context_length), strict=True))
    checkpoint = Checkpoint(source)

    def content(name: str) -> Tensor:
        if name in tables:
            return tables[name]
        if wanted[name].dim() > 1:
            matrix = _matrix(config, checkpoint, name)
            return pack(to_int8(matrix) if wanted[name].dtype is torch.int8 else matrix)
        scaled = scaled_matrix(name)
        return _norm(checkpoint, name) if scaled is None else int8_scales(_matrix(config, checkpoint, scaled))

    try:
        write_weights(path, wanted, content)
    except ValueError as error:
        raise unreadable(f"its weights do not fit its config.json: {error}") from error


def _norm(checkpoint: Checkpoint, name: str) -> Tensor:
    if name == "norm":
        return checkpoint.read("model.norm.weight")
    _, layer, part = name.split(".")
    return checkpoint.read(f"model.layers.{layer}.{_NORMS[part]}.weight")


def _matrix(config: LlamaConfig, checkpoint: Checkpoint, name: str) -> Tensor:
    """float32[inputs, outputs]."""
    if name == "head" and not config.tied_embeddings:
        return checkpoint.read_transposed("lm_head.weight")
    if name in ("embedding", "head"):
        return checkpoint.read_transposed("model.embed_tokens.weight")
    _, layer, part = name.split(".")
    columns = [checkpoint.read_transposed(f"model.layers.{layer}.{of}.weight") for of in _PROJECTIONS[part]]
    if len({column.shape[0] for column in columns}) != 1:
        raise ValueError(f"{name} is made of {[tuple(column.shape) for column in columns]}")
    return torch.cat(columns, dim=1)
