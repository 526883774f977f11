"""A model's checkpoint in safetensors: its tensors by name, in one file or in several with an index."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import is_taken

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


class Checkpoint:
    """The tensors of one source. Every method raises ContainerFailure(UNSUPPORTED_MODEL)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        index = folder / _INDEX
        self._file_of: dict[str, str] | None = None
        if index.is_file():
            self._file_of = _read_index(index)
        elif not (folder / _SINGLE).is_file():
            raise unreadable(f"it has neither {_SINGLE} nor {_INDEX}")

    def read(self, name: str) -> Tensor:
        """One tensor, as it is stored."""
        file = _SINGLE if self._file_of is None else self._file_of.get(name)
        if file is None or not (self._folder / file).is_file():
            raise unreadable(f"its index names no file that holds {name}")
        try:
            with safe_open(self._folder / file, framework="pt") as opened:
                if name not in opened.keys():  # noqa: SIM118 - not a mapping: it has no __contains__
                    raise unreadable(f"{file} does not hold {name}")
                tensor: Tensor = opened.get_tensor(name)
                return tensor
        except SafetensorError as error:
            raise unreadable(f"{file}: {error}") from error

    def read_transposed(self, name: str) -> Tensor:
        """A matrix stored [outputs, inputs], as float32[inputs, outputs]. Raises ValueError when it is none."""
        tensor = self.read(name)
        if tensor.dim() != 2:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, which is no matrix")
        return tensor.float().t()


def _read_index(index: Path) -> dict[str, str]:
    """In which file each tensor is. The files are those of the snapshot: an index names nothing beside it."""
    try:
        files = json.loads(index.read_text("utf-8"))["weight_map"].items()
        return {str(name): file for name, file in files if is_taken(file)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(f"{_INDEX} has no usable weight_map ({type(error).__name__})") from error


def unreadable(finding: str) -> ContainerFailure:
    """The failure of a checkpoint that is not what its configuration says."""
    return ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"the model cannot be read: {finding}")
