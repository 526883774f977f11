"""Pickled weights made into safetensors, so that whoever reads the snapshot never opens a pickle.

torch reads them with `weights_only=True`: its own reader knows tensors and plain containers, and refuses everything
that would have to be called. It is imported by the first conversion.
"""

import json
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import PICKLE_INDEX, is_pickle

if TYPE_CHECKING:
    from torch import Tensor

_SINGLE_PICKLE = "pytorch_model.bin"
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_NAME = re.compile(r"pytorch_model(?P<shard>-\d+-of-\d+)?\.bin")


def convert_pickles(folder: Path, paths: set[str]) -> set[str]:
    """Convert the pickles among `paths`, files of `folder`, and remove them and their index; the paths there are then.

    One file at a time, so that the folder needs room for one file more. The new index is made of what was found: that
    of the pickles is not read.

    Raises ContainerFailure: SOURCE_UNSAFE for a pickle that needs more than tensors, UNSUPPORTED_MODEL for one that is
    no checkpoint.
    """
    pickles = sorted(path for path in paths if is_pickle(path))
    chosen = [_SINGLE_PICKLE] if _SINGLE_PICKLE in pickles else pickles
    weight_map = dict[str, str]()
    size = 0
    for path in chosen:
        target = _target(path)
        tensors = _load(folder / path, path)
        if twice := sorted(tensors.keys() & weight_map.keys()):
            raise _unsupported(f"{path} and {weight_map[twice[0]]} both hold {twice[0]}")
        _save(tensors, folder / target)
        size += sum(tensor.nbytes for tensor in tensors.values())
        weight_map |= dict.fromkeys(tensors, target)
        del tensors
        (folder / path).unlink()
    for path in (*pickles, PICKLE_INDEX):
        (folder / path).unlink(missing_ok=True)
    made = {_target(path) for path in chosen}
    if made != {_SINGLE}:
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (folder / _INDEX).write_text(json.dumps(index, sort_keys=True), "utf-8")
        made.add(_INDEX)
    return {path for path in paths if not is_pickle(path) and path != PICKLE_INDEX} | made


def _target(path: str) -> str:
    found = _NAME.fullmatch(path)
    assert found is not None  # noqa: S101 - `is_pickle` takes no other names
    return f"model{found['shard'] or ''}.safetensors"


def _load(file: Path, path: str) -> "dict[str, Tensor]":
    import torch

    try:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            # Files of before torch 1.6 are no archives, and can be read as a whole alone.
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise ContainerFailure(
            FailureCode.SOURCE_UNSAFE,
            f"{path} is refused: {_refused_thing(str(error)) or reason}. A pickle that needs more than tensors could "
            "run any code; use the model in safetensors",
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise _unsupported(f"{path} cannot be read: {type(error).__name__}: {str(error)[:300]}") from error
    if not isinstance(content, dict) or not content:
        raise _unsupported(f"{path} holds no tensors by name")
    strange = [name for name, value in content.items() if not _is_plain(name, value)]
    if strange:
        raise _unsupported(f"{path} holds {str(strange[0])[:100]!r}, which is no plain tensor")
    return dict(content)


def _refused_thing(message: str) -> str | None:
    """What torch says it was asked to import, without its advice to trust the file."""
    found = re.search(r"Unsupported (?:global: GLOBAL|class|operand) \S+|GLOBAL [\w.]+", message)
    return f"it asks for {found.group().split()[-1]}" if found else None


def _is_plain(name: object, value: object) -> bool:
    import torch

    return (
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and value.device.type == "cpu"
    )


def _save(tensors: "dict[str, Tensor]", target: Path) -> None:
    """Write tensors, each with memory of its own: tied ones are written as often as they are named, so that a reader
    finds each under its name."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    seen = set[int]()
    plain = dict[str, "Tensor"]()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        alone = storage.data_ptr() not in seen and storage.nbytes() == tensor.nbytes and tensor.is_contiguous()
        seen.add(storage.data_ptr())
        plain[name] = tensor.detach() if alone else tensor.detach().clone(memory_format=torch.contiguous_format)
    try:
        save_file(plain, target, metadata={"format": "pt"})
    except (SafetensorError, ValueError, KeyError) as error:
        raise _unsupported(f"{target.name} cannot be written: {error}") from error


def _unsupported(finding: str) -> ContainerFailure:
    return ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"the pickled weights cannot be converted: {finding}")
