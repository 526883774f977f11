"""Weights in one safetensors file: written tensor by tensor, mapped when read, so that a model need not fit into memory
twice. Imports no torch: a server reads such files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights.safetensors"
"""The file of an artifact that holds them."""

# Rows of weights are read by vector instructions straight out of the mapped file.
_ALIGNMENT = 64


# Types of elements by safetensors' names.
_TYPES: dict[str, type[np.generic]] = {"F32": np.float32, "I8": np.int8}


def write_weights(path: Path, wanted: "Mapping[str, Tensor]", tensor: "Callable[[str], Tensor]") -> None:
    """Write tensors of the types and shapes of `wanted`, asking for the content of each when its turn comes.

    Raises ValueError when one has another shape.
    """
    header: dict[str, object] = {}
    offset = 0
    for name, like in wanted.items():
        size = like.numel() * like.element_size()
        kind = {4: "F32", 1: "I8"}[like.element_size()]
        header[name] = {"dtype": kind, "shape": list(like.shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(len(encoded) + 8) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name, like in wanted.items():
            content = tensor(name)
            if content.shape != like.shape:
                raise ValueError(f"{name} has the shape {tuple(content.shape)}, not {tuple(like.shape)}")
            content.to(like.dtype).contiguous().numpy().tofile(file)


def map_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a file that `write_weights` wrote: parts of the mapped file, read when first used, unchangeable.

    Raises OSError, or ValueError for another file.
    """
    content = np.asarray(np.memmap(path, np.uint8, mode="r"))
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    tensors = dict[str, npt.NDArray[Any]]()
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        if entry["dtype"] not in _TYPES:
            raise ValueError(f"{name} has the type {entry['dtype']}; {' and '.join(_TYPES)} are known")
        tensors[name] = content[start + first : start + last].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors
