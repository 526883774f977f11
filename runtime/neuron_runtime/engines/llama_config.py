"""Reads a Llama's `config.json`. What would change answers and is not implemented is refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base import Config
from .model_config import count, expect, number, unsupported

ARCHITECTURE = "LlamaForCausalLM"

# Settings that the graphs take for granted, and the values at which they mean just that.
_EXPECTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1, None),
    "pretraining_tp": (1, None),
    "quantization_config": (None,),
}


@dataclass(frozen=True)
class LlamaConfig:
    """The numbers that shape the graphs; sizes count elements."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    max_positions: int
    rope_theta: float
    norm_epsilon: float
    tied_embeddings: bool

    @property
    def group(self) -> int:
        """Query heads that share one key-value head."""
        return self.heads // self.key_value_heads


def parse_llama_config(config: Config) -> LlamaConfig:
    """Raises ContainerFailure(UNSUPPORTED_MODEL)."""
    expect(config, ARCHITECTURE, _EXPECTED)
    parsed = _read(config)
    if parsed.heads % parsed.key_value_heads or parsed.head_size % 2:
        raise unsupported(
            f"{parsed.heads} heads of {parsed.head_size} elements over {parsed.key_value_heads} key-value heads"
        )
    return parsed


def _read(config: Config) -> LlamaConfig:
    heads, hidden = count(config, "num_attention_heads"), count(config, "hidden_size")
    tied = config.get("tie_word_embeddings")
    if not isinstance(tied, bool | None):
        raise unsupported(f"tie_word_embeddings {tied!r}, where true or false is needed")
    return LlamaConfig(
        layers=count(config, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=count(config, "intermediate_size"),
        heads=heads,
        key_value_heads=count(config, "num_key_value_heads", default=heads),
        head_size=count(config, "head_dim", default=hidden // heads),
        vocabulary=count(config, "vocab_size"),
        max_positions=count(config, "max_position_embeddings"),
        rope_theta=_rope_theta(config),
        norm_epsilon=number(config, "rms_norm_eps"),
        tied_embeddings=bool(tied),
    )


def _rope_theta(config: Config) -> float:
    # transformers 5 writes `rope_parameters`; models saved before it have `rope_theta` and `rope_scaling`.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise unsupported(f"rope_scaling {rope!r}, where an object is needed")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise unsupported(f"rope_type {kind!r}; this engine implements 'default' only")
    factor = rope.get("partial_rotary_factor")
    if factor not in _EXPECTED["partial_rotary_factor"]:
        raise unsupported(f"partial_rotary_factor {factor!r}; this engine implements 1 only")
    return number(rope if "rope_theta" in rope else config, "rope_theta", default=10000.0)
