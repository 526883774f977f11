"""Writes safetensors files of bfloat16, a type that numpy does not have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def round_to_bfloat16(values: Float32) -> NDArray[np.uint16]:
    """The upper halves of the numbers, rounded to nearest, ties to even. The numbers must be finite."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def write(path: Path, shapes: Mapping[str, tuple[int, ...]], load: Callable[[str], Float32]) -> None:
    """Write one tensor after the other, each made by `load` only when its turn has come."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name, shape in shapes.items():
            values = load(name)
            if values.shape != shape:
                raise ValueError(f"tensor {name} has the shape {values.shape}, announced was {shape}")
            file.write(round_to_bfloat16(values).tobytes())
