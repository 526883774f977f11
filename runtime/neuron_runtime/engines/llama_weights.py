"""Turns a Llama checkpoint into the weights that its graphs take: fused, transposed, float32, one file."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import is_taken

from .llama import Llama, rotation_tables
from .llama_config import LlamaConfig
from .weight_file import write_float32

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"

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
    checkpoint = _Checkpoint(source)
    try:
        write_float32(path, shapes, lambda name: tables[name] if name in tables else _tensor(checkpoint, name))
    except ValueError as error:
        raise _unsupported(f"its weights do not fit its config.json: {error}") from error


def _tensor(checkpoint: "_Checkpoint", name: str) -> Tensor:
    if name == "head":
        return _transposed(checkpoint, "lm_head.weight")
    if name in _TOP:
        return checkpoint.read(f"{_TOP[name]}.weight")
    _, layer, part = name.split(".")
    prefix = f"model.layers.{layer}"
    if part in _NORMS:
        return checkpoint.read(f"{prefix}.{_NORMS[part]}.weight")
    columns = [_transposed(checkpoint, f"{prefix}.{source}.weight") for source in _PROJECTIONS[part]]
    if len({column.shape[0] for column in columns}) != 1:
        raise ValueError(f"{name} is made of {[tuple(column.shape) for column in columns]}")
    return torch.cat(columns, dim=1)


def _transposed(checkpoint: "_Checkpoint", name: str) -> Tensor:
    tensor = checkpoint.read(name)
    if tensor.dim() != 2:
        raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, which is no matrix")
    return tensor.float().t()


class _Checkpoint:
    """The tensors of one source, in one file or in several with an index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        index = folder / _INDEX
        self._file_of: dict[str, str] | None = None
        if index.is_file():
            self._file_of = _read_index(index)
        elif not (folder / _SINGLE).is_file():
            raise _unsupported(f"it has neither {_SINGLE} nor {_INDEX}")

    def read(self, name: str) -> Tensor:
        file = _SINGLE if self._file_of is None else self._file_of.get(name)
        if file is None or not (self._folder / file).is_file():
            raise _unsupported(f"its index names no file that holds {name}")
        try:
            with safe_open(self._folder / file, framework="pt") as opened:
                if name not in opened.keys():  # noqa: SIM118 - not a mapping: it has no __contains__
                    raise _unsupported(f"{file} does not hold {name}")
                tensor: Tensor = opened.get_tensor(name)
                return tensor
        except SafetensorError as error:
            raise _unsupported(f"{file}: {error}") from error


def _read_index(index: Path) -> dict[str, str]:
    """In which file each tensor is. The files are those of the snapshot: an index names nothing beside it."""
    try:
        files = json.loads(index.read_text("utf-8"))["weight_map"].items()
        return {str(name): file for name, file in files if is_taken(file)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unsupported(f"{_INDEX} has no usable weight_map ({type(error).__name__})") from error


def _unsupported(finding: str) -> ContainerFailure:
    return ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"the model cannot be read: {finding}")
