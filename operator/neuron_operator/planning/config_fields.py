"""Reads single fields of a `config.json`, whose author may have written anything."""

from collections.abc import Mapping
from typing import Any

from .refusal import UnsupportedModel


def architecture_of(config: Mapping[str, Any]) -> str:
    """The class of transformers that the model is made for."""
    architectures = config.get("architectures")
    return str(architectures[0]) if isinstance(architectures, list) and architectures else "(none)"


def positive(config: Mapping[str, Any], field: str, default: int | None = None) -> int:
    """A positive whole number. Raises UnsupportedModel naming the field."""
    value = config.get(field)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise UnsupportedModel(
            f"config.json has {field}: {value!r}, where a positive whole number is needed",
            "Set model.huggingFace.repo to a model whose config.json is complete",
        )
    return value
