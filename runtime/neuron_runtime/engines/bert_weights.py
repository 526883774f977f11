"""Turns a BERT checkpoint into the weights that its graphs take: fused, transposed, float32, one file."""

from pathlib import Path

import torch
from torch import Tensor

from .bert import Bert
from .bert_config import BertConfig, VectorSettings
from .checkpoint import Checkpoint, unreadable
from .weight_file import write_weights

# Columns of one product, side by side in this order.
_PROJECTIONS = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "output": ("attention.output.dense",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}
_NORMS = {"attention_norm": "attention.output.LayerNorm", "norm": "output.LayerNorm"}


def write_bert_weights(config: BertConfig, vectors: VectorSettings, source: Path, path: Path) -> None:
    """Write the weights of `Bert(config, vectors)`. Raises ContainerFailure(UNSUPPORTED_MODEL)."""
    with torch.device("meta"):
        wanted = Bert(config, vectors).state_dict()
    checkpoint = Checkpoint(source)
    try:
        write_weights(path, wanted, lambda name: _tensor(checkpoint, name))
    except ValueError as error:
        raise unreadable(f"its weights do not fit its config.json: {error}") from error


def _tensor(checkpoint: Checkpoint, name: str) -> Tensor:
    if name == "embedding":
        return checkpoint.read("embeddings.word_embeddings.weight")
    if name == "positions":
        token_types = checkpoint.read("embeddings.token_type_embeddings.weight")
        return checkpoint.read("embeddings.position_embeddings.weight").float() + token_types[0].float()
    if name.startswith("norm_"):
        return checkpoint.read(f"embeddings.LayerNorm.{name.removeprefix('norm_')}")
    _, layer, part = name.split(".")
    prefix = f"encoder.layer.{layer}"
    if part in _PROJECTIONS:
        columns = [checkpoint.read_transposed(f"{prefix}.{of}.weight") for of in _PROJECTIONS[part]]
        return _joined(name, columns, dim=1)
    what, _, kind = part.rpartition("_")
    if what in _PROJECTIONS:
        return _joined(name, [checkpoint.read(f"{prefix}.{of}.{kind}") for of in _PROJECTIONS[what]], dim=0)
    return checkpoint.read(f"{prefix}.{_NORMS[what]}.{kind}")


def _joined(name: str, parts: list[Tensor], dim: int) -> Tensor:
    if len({part.shape[0] if dim else part.dim() for part in parts}) != 1:
        raise ValueError(f"{name} is made of {[tuple(part.shape) for part in parts]}")
    return torch.cat(parts, dim=dim)
