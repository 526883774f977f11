"""Reads a Llama's `config.json`. What would change answers and is not implemented is refused by name."""

from dataclasses import dataclass
from typing import Any

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

from .base import Config

ARCHITECTURE = "LlamaForCausalLM"

# Settings that the graphs take for granted, and the values at which they mean just that.
_EXPECTED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
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
    architectures = config.get("architectures") or []
    if architectures != [ARCHITECTURE]:
        raise _unsupported(f"architectures {architectures}; this engine compiles {ARCHITECTURE}")
    for name, accepted in _EXPECTED.items():
        if name in config and config[name] not in accepted:
            raise _unsupported(f"{name} {config[name]!r}; this engine implements {accepted[0]!r} only")
    try:
        parsed = _read(config)
    except (KeyError, TypeError, ValueError) as error:
        raise _unsupported(f"no usable {error}") from error
    if parsed.heads % parsed.key_value_heads or parsed.head_size % 2:
        raise _unsupported(
            f"{parsed.heads} heads of {parsed.head_size} elements over {parsed.key_value_heads} key-value heads"
        )
    return parsed


def _read(config: Config) -> LlamaConfig:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    return LlamaConfig(
        layers=int(config["num_hidden_layers"]),
        hidden_size=hidden,
        intermediate_size=int(config["intermediate_size"]),
        heads=heads,
        key_value_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        vocabulary=int(config["vocab_size"]),
        max_positions=int(config["max_position_embeddings"]),
        rope_theta=_rope_theta(config),
        norm_epsilon=float(config["rms_norm_eps"]),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )


def _rope_theta(config: Config) -> float:
    # transformers 5 writes `rope_parameters`; models saved before it have `rope_theta` and `rope_scaling`.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise _unsupported(f"rope_type {kind!r}; this engine implements 'default' only")
    theta = rope.get("rope_theta", config.get("rope_theta"))
    return float(10000.0 if theta is None else theta)


def _unsupported(finding: str) -> ContainerFailure:
    return ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"the model's config.json has {finding}")
