"""Reads a model's `config.json`: what is missing, of the wrong kind, or not implemented is refused by name.

Everything here raises ContainerFailure(UNSUPPORTED_MODEL).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

from .base import Config

CONFIG = "config.json"


def read_config(source: Path) -> Config:
    """The model's configuration."""
    try:
        config = json.loads((source / CONFIG).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise unsupported(f"no {CONFIG} that can be read ({error})") from error
    if not isinstance(config, dict):
        raise unsupported(f"a {CONFIG} that is not a JSON object")
    return config


def expect(config: Config, architecture: str, expected: Mapping[str, Sequence[Any]]) -> None:
    """Refuse another architecture, and settings that the graphs take for granted where they have other values.

    `expected` holds for each setting the values at which it means just that, the usual one first.
    """
    architectures = config.get("architectures") or []
    if architectures != [architecture]:
        raise unsupported(f"architectures {architectures}; this engine compiles {architecture}")
    for name, accepted in expected.items():
        if name in config and config[name] not in accepted:
            raise unsupported(f"{name} {config[name]!r}; this engine implements {accepted[0]!r} only")


def count(config: Config, name: str, default: int | None = None) -> int:
    """A positive whole number; null counts as absent."""
    value = default if config.get(name) is None else config[name]
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise unsupported(f"{name} {value!r}, where a positive whole number is needed")
    return value


def number(config: Config, name: str, default: float | None = None) -> float:
    """A positive number; null counts as absent."""
    value = default if config.get(name) is None else config[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise unsupported(f"{name} {value!r}, where a positive number is needed")
    return float(value)


def unsupported(finding: str) -> ContainerFailure:
    """The failure of a model that has this."""
    return ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"the model has {finding}")
