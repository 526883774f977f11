"""What planning needs to know of an encoder, read from its `config.json` alone: no weights are downloaded.

Field names are those of Hugging Face transformers' `BertConfig`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .architectures import BERT, GENERATORS
from .config_fields import architecture_of, positive
from .refusal import UnsupportedModel


@dataclass(frozen=True)
class EncoderFacts:
    """Shape of an encoder that makes one vector of a text."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    vocabulary: int
    max_position: int
    token_types: int

    @property
    def parameters(self) -> int:
        """Number of weights that vectors are made with: the head of the pre-training is not one of them."""
        hidden, intermediate = self.hidden_size, self.intermediate_size
        norm = 2 * hidden
        attention = 4 * (hidden * hidden + hidden)
        feed_forward = 2 * hidden * intermediate + intermediate + hidden
        embeddings = (self.vocabulary + self.max_position + self.token_types) * hidden + norm
        return self.layers * (attention + feed_forward + 2 * norm) + embeddings

    def activation_bytes(self, *, texts: int, length: int, element_bytes: int) -> int:
        """Bytes that one layer's results take at most, for a step of so many texts of so many tokens."""
        of_token = 8 * self.hidden_size + 2 * self.intermediate_size + self.heads * length
        return texts * length * of_token * element_bytes


def encoder_facts(config: Mapping[str, Any]) -> EncoderFacts:
    """Read the facts. Raises UnsupportedModel for another architecture, or when a field is missing or not a number."""
    architecture = architecture_of(config)
    if architecture in GENERATORS:
        raise UnsupportedModel(
            f"config.json names the architecture {architecture}, which generates text and makes no embeddings",
            f"Set spec.model.task: TextGeneration, or model.huggingFace.repo to an encoder ({BERT})",
        )
    if architecture != BERT:
        raise UnsupportedModel(
            f"config.json names the architecture {architecture}; for embeddings {BERT} is what can be compiled",
            "Set model.huggingFace.repo to a BERT encoder",
        )
    return EncoderFacts(
        architecture=architecture,
        hidden_size=positive(config, "hidden_size"),
        intermediate_size=positive(config, "intermediate_size"),
        layers=positive(config, "num_hidden_layers"),
        heads=positive(config, "num_attention_heads"),
        vocabulary=positive(config, "vocab_size"),
        max_position=positive(config, "max_position_embeddings"),
        token_types=positive(config, "type_vocab_size", default=2),
    )
