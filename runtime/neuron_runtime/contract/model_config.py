"""What planning reads of a model's `config.json`: the one list of those fields, and a form of them that is small.

A `config.json` is written by whoever made the model, so nothing in it may be taken to be short, or of the right kind.
"""

from collections.abc import Mapping
from typing import Any

ARCHITECTURES = "architectures"
TIED_EMBEDDINGS = "tie_word_embeddings"

COUNTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "type_vocab_size",
)
"""Fields that hold positive whole numbers."""

PLANNING_FIELDS = (ARCHITECTURES, *COUNTS, TIED_EMBEDDINGS)

_LONGEST_TEXT = 48
_LARGEST_COUNT = 2**53


def planning_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that planning reads, at most 1.5 KiB as JSON. It plans, or refuses, as from the whole configuration.

    Of the architectures the first one stays. What is no number where one belongs, or one beyond 2^53, becomes a short
    text, so that the refusal still shows it. Null is left out.
    """
    found = dict[str, Any]()
    architectures = config.get(ARCHITECTURES)
    if isinstance(architectures, list) and architectures:
        found[ARCHITECTURES] = [_text(architectures[0])]
    for field in COUNTS:
        if config.get(field) is not None:
            found[field] = _count(config[field])
    if config.get(TIED_EMBEDDINGS) is not None:
        found[TIED_EMBEDDINGS] = bool(config[TIED_EMBEDDINGS])
    return found


def _count(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST_COUNT:
        return value
    return _text(value)


def _text(value: Any) -> str:
    """A value as short printable ASCII."""
    # Whole numbers beyond some thousand digits have no decimal text.
    whole = value if isinstance(value, str) else hex(value) if isinstance(value, int) else repr(value)
    text = ascii(whole[:_LONGEST_TEXT])[1:-1]
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."
