"""Weights in one safetensors file: written tensor by tensor, mapped when read, so that a model need not fit into memory
twice. Imports no torch: a server reads such files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights.safetensors"
"""The file of an artifact that holds them."""

# Rows of weights are read by vector instructions straight out of the mapped file.
_ALIGNMENT = 64


def write_float32(path: Path, shapes: Mapping[str, tuple[int, ...]], tensor: "Callable[[str], Tensor]") -> None:
    """Write tensors as float32, asking for each when its turn comes. Raises ValueError when one has another shape."""
    header: dict[str, object] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 4
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(len(encoded) + 8) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name, shape in shapes.items():
            content = tensor(name).float().contiguous()
            if tuple(content.shape) != shape:
                raise ValueError(f"{name} has the shape {tuple(content.shape)}, not {shape}")
            content.numpy().tofile(file)


def map_float32(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a file that `write_float32` wrote: parts of the mapped file, read when first used, unchangeable.

    Raises OSError, or ValueError for another file.
    """
    content = np.asarray(np.memmap(path, np.uint8, mode="r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        tensors[name] = content[start + first : start + last].view(np.float32).reshape(entry["shape"])
    return tensors
