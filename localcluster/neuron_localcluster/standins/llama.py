"""What a Llama model in the transformers form consists of: configuration, and names and shapes of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuron_localcluster.standins.tokenizer import write_json


@dataclass(frozen=True)
class Llama:
    """The numbers that make up a model; sizes count elements."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    key_value_heads: int
    vocabulary: int
    max_positions: int
    rope_theta: float
    norm_epsilon: float
    tied_embeddings: bool
    begin_token: int
    end_token: int

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor in the order in which it is written."""
        hidden, keys = self.hidden_size, self.key_value_heads * self.head_size
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, hidden)}
        for layer in range(self.layers):
            at = f"model.layers.{layer}"
            shapes |= {
                f"{at}.input_layernorm.weight": (hidden,),
                f"{at}.self_attn.q_proj.weight": (hidden, hidden),
                f"{at}.self_attn.k_proj.weight": (keys, hidden),
                f"{at}.self_attn.v_proj.weight": (keys, hidden),
                f"{at}.self_attn.o_proj.weight": (hidden, hidden),
                f"{at}.post_attention_layernorm.weight": (hidden,),
                f"{at}.mlp.gate_proj.weight": (self.intermediate_size, hidden),
                f"{at}.mlp.up_proj.weight": (self.intermediate_size, hidden),
                f"{at}.mlp.down_proj.weight": (hidden, self.intermediate_size),
            }
        shapes["model.norm.weight"] = (hidden,)
        if not self.tied_embeddings:
            shapes["lm_head.weight"] = (self.vocabulary, hidden)
        return shapes

    def write_configuration(self, folder: Path) -> None:
        """Write config.json and generation_config.json."""
        tokens = {"bos_token_id": self.begin_token, "eos_token_id": self.end_token, "pad_token_id": self.end_token}
        configuration = {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            **tokens,
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_positions,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.key_value_heads,
            "pretraining_tp": 1,
            "rms_norm_eps": self.norm_epsilon,
            "rope_scaling": None,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tied_embeddings,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": self.vocabulary,
        }
        write_json(folder / "config.json", configuration)
        write_json(folder / "generation_config.json", {"_from_model_config": True, **tokens})
