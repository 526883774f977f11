"""What planning needs to know of a model, read from its `config.json` alone: no weights are downloaded.

Field names are those of Hugging Face transformers' `LlamaConfig`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuron_runtime.contract.request import Quantization

from .architectures import ENCODERS, LLAMA
from .config_fields import architecture_of, positive
from .refusal import UnsupportedModel


@dataclass(frozen=True)
class ModelFacts:
    """Shape of a decoder-only transformer."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    max_position: int
    tied_embeddings: bool

    @property
    def parameters(self) -> int:
        """Number of weights; tied embeddings are counted once."""
        attention = self.hidden_size * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        feed_forward = 3 * self.hidden_size * self.intermediate_size
        return self.layers * (attention + feed_forward) + self._embeddings * self.hidden_size + self._vectors

    def weight_bytes(self, quantization: Quantization, *, element_bytes: int) -> int:
        """Bytes of all weights. Quantized, a number of a matrix takes one; its outputs' scales do not, nor do norms."""
        if quantization is Quantization.NONE:
            return self.parameters * element_bytes
        heads = self.head_dim * (self.heads + 2 * self.kv_heads)
        outputs = self.layers * (heads + 2 * self.intermediate_size + 2 * self.hidden_size) + self._embeddings
        return self.parameters - self._vectors + (self._vectors + outputs) * element_bytes

    def kv_cache_bytes(self, *, slots: int, length: int, element_bytes: int) -> int:
        """Bytes of keys and values of all layers, for `slots` sequences of `length` tokens."""
        return 2 * self.layers * slots * length * self.kv_heads * self.head_dim * element_bytes

    def activation_bytes(self, *, tokens: int, answers: int, element_bytes: int) -> int:
        """Bytes that one layer's results take at most, and the logits of those tokens that get an answer."""
        of_token = 4 * self.hidden_size + 3 * self.intermediate_size
        return (tokens * of_token + answers * self.vocabulary) * element_bytes

    @property
    def _embeddings(self) -> int:
        """Rows of all embeddings."""
        return self.vocabulary * (1 if self.tied_embeddings else 2)

    @property
    def _vectors(self) -> int:
        """Numbers that are in no matrix: the norms."""
        return (2 * self.layers + 1) * self.hidden_size


def model_facts(config: Mapping[str, Any]) -> ModelFacts:
    """Read the facts. Raises UnsupportedModel for another architecture, or when a field is missing or not a number."""
    architecture = architecture_of(config)
    if architecture in ENCODERS:
        raise UnsupportedModel(
            f"config.json names the architecture {architecture}, an encoder, which generates no text",
            "Set spec.model.task: Embedding, or model.huggingFace.repo to a Llama-family model",
        )
    if architecture != LLAMA:
        raise UnsupportedModel(
            f"config.json names the architecture {architecture}; {LLAMA} is what can be compiled",
            "Set model.huggingFace.repo to a Llama-family model",
        )
    hidden_size = positive(config, "hidden_size")
    heads = positive(config, "num_attention_heads")
    return ModelFacts(
        architecture=architecture,
        hidden_size=hidden_size,
        intermediate_size=positive(config, "intermediate_size"),
        layers=positive(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=positive(config, "num_key_value_heads", default=heads),
        head_dim=positive(config, "head_dim", default=hidden_size // heads),
        vocabulary=positive(config, "vocab_size"),
        max_position=positive(config, "max_position_embeddings"),
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )
