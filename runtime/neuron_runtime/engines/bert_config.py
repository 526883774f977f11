"""Reads a BERT encoder's `config.json`, and how sentence-transformers makes one vector of its tokens' vectors.

What would change vectors and is not implemented is refused by name.
"""

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from neuron_runtime.contract.source import POOLING

from .base import Config
from .model_config import count, expect, number, unsupported

ARCHITECTURE = "BertModel"

_MODULES = "modules.json"
_MODULE_PREFIX = "sentence_transformers.models."
# Settings that the graphs take for granted, and the values at which they mean just that.
_EXPECTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute", None),
    "quantization_config": (None,),
    "is_decoder": (False, None),
}


class Pooling(Enum):
    """How the vectors of a text's tokens become one."""

    MEAN = "mean"
    FIRST = "first"
    """That of the first token, `[CLS]`."""


@dataclass(frozen=True)
class VectorSettings:
    """What becomes of the tokens' vectors."""

    pooling: Pooling
    normalized: bool
    """Whether vectors are scaled to length 1."""


@dataclass(frozen=True)
class BertConfig:
    """The numbers that shape the graphs; sizes count elements."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    vocabulary: int
    max_positions: int
    norm_epsilon: float

    @property
    def head_size(self) -> int:
        """Elements of one attention head."""
        return self.hidden_size // self.heads


def parse_bert_config(config: Config) -> BertConfig:
    """Raises ContainerFailure(UNSUPPORTED_MODEL)."""
    expect(config, ARCHITECTURE, _EXPECTED)
    hidden, heads = count(config, "hidden_size"), count(config, "num_attention_heads")
    if hidden % heads:
        raise unsupported(f"hidden_size {hidden}, which {heads} heads do not divide")
    return BertConfig(
        layers=count(config, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=count(config, "intermediate_size"),
        heads=heads,
        vocabulary=count(config, "vocab_size"),
        max_positions=count(config, "max_position_embeddings"),
        norm_epsilon=number(config, "layer_norm_eps", default=1e-12),
    )


def read_vector_settings(source: Path) -> VectorSettings:
    """What the files of sentence-transformers ask for; what that library does by itself where there are none.

    Raises ContainerFailure(UNSUPPORTED_MODEL).
    """
    modules = _read_list(source / _MODULES) if (source / _MODULES).is_file() else []
    kinds = [str(module.get("type", "")).removeprefix(_MODULE_PREFIX) for module in modules]
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown:
        raise unsupported(f"the module {unknown[0]} in {_MODULES}; this engine implements Pooling and Normalize")
    normalized = "Normalize" in kinds
    if not (source / POOLING).is_file():
        return VectorSettings(Pooling.MEAN, normalized)
    settings = _read_object(source / POOLING)
    modes = sorted(name for name, on in settings.items() if name.startswith("pooling_mode_") and on is True)
    if modes == ["pooling_mode_mean_tokens"]:
        return VectorSettings(Pooling.MEAN, normalized)
    if modes == ["pooling_mode_cls_token"]:
        return VectorSettings(Pooling.FIRST, normalized)
    raise unsupported(f"{' and '.join(modes) or 'no pooling mode'} in {POOLING}; mean or cls tokens are implemented")


def _read_list(path: Path) -> list[dict[str, Any]]:
    content = _read(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise unsupported(f"a {path.name} that is not a list of objects")
    return content


def _read_object(path: Path) -> dict[str, Any]:
    content = _read(path)
    if not isinstance(content, dict):
        raise unsupported(f"a {POOLING} that is not an object")
    return content


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise unsupported(f"a {path.name} that is not JSON ({error})") from error
