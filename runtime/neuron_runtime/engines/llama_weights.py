"""Turns a Llama checkpoint into the weights that its graphs take: fused, in panels, float32, one file."""

from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import Checkpoint, unreadable
from .llama import Llama, rotation_tables
from .llama_config import LlamaConfig
from .packed_linear import pack
from .weight_file import write_float32

_TOP = {"embedding": "model.embed_tokens", "norm": "model.norm"}
_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
# Columns of one product, side by side in this order.
_PROJECTIONS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


def write_llama_weights(config: LlamaConfig, context_length: int, source: Path, path: Path) -> None:
    """Write the weights of `Llama(config, context_length)`. Raises ContainerFailure(UNSUPPORTED_MODEL)."""
    with torch.device("meta"):
        model = Llama(config, context_length)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tables = dict(zip(("cosine", "sine"), rotation_tables(config, context_length), strict=True))
    checkpoint = Checkpoint(source)
    try:
        write_float32(path, shapes, lambda name: tables[name] if name in tables else _tensor(config, checkpoint, name))
    except ValueError as error:
        raise unreadable(f"its weights do not fit its config.json: {error}") from error


def _tensor(config: LlamaConfig, checkpoint: Checkpoint, name: str) -> Tensor:
    if name == "head":
        return pack(checkpoint.read_transposed(f"{_TOP['embedding'] if config.tied_embeddings else 'lm_head'}.weight"))
    if name in _TOP:
        return checkpoint.read(f"{_TOP[name]}.weight")
    _, layer, part = name.split(".")
    prefix = f"model.layers.{layer}"
    if part in _NORMS:
        return checkpoint.read(f"{prefix}.{_NORMS[part]}.weight")
    columns = [checkpoint.read_transposed(f"{prefix}.{source}.weight") for source in _PROJECTIONS[part]]
    if len({column.shape[0] for column in columns}) != 1:
        raise ValueError(f"{name} is made of {[tuple(column.shape) for column in columns]}")
    return pack(torch.cat(columns, dim=1))
