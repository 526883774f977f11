"""A model with its matrices rounded to int8 and back, done here with nothing of the runtime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def rounded_reference(source: Path) -> Any:
    """The model in transformers, in float64, with the weights that int8 can hold."""
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(source, dtype=torch.float64).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.copy_(_rounded(weight))
    return model


def _rounded(weight: torch.Tensor) -> torch.Tensor:
    """Of each row of a matrix [outputs, inputs], the largest number becomes 127."""
    # In float32, as checkpoints are read: a number half way between two may be just beside it with more digits.
    exact = weight.float()
    scale = exact.abs().amax(dim=1, keepdim=True) / 127
    return torch.round(exact / scale).double() * scale.double()
