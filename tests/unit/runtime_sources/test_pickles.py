"""Pickled weights become safetensors, or are refused: nothing in them ever runs."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neuron_runtime.contract.origin import VolumeOrigin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import source_digest
from neuron_runtime.engines.checkpoint import Checkpoint
from neuron_runtime.sources import copy_snapshot
from neuron_runtime.sources.pickles import convert_pickles
from neuron_runtime.sources.volume import VolumeSource

_SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


def _weights() -> dict[str, torch.Tensor]:
    """Tied, transposed, sliced and plain ones."""
    embeddings, wide = torch.randn(16, 8), torch.randn(8, 32)
    return OrderedDict(
        {
            "model.embed_tokens.weight": embeddings,
            "lm_head.weight": embeddings,
            "transposed": wide.t(),
            "slice": wide[2:4],
            "half": torch.randn(3).to(torch.bfloat16),
            "parameter": torch.nn.Parameter(torch.randn(4)),
            "empty": torch.zeros(0, 4),
            "scalar": torch.tensor(3),
        }
    )


def _assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "before-1.6"])
def test_every_tensor_is_there_with_its_bytes(tmp_path: Path, is_archive: bool) -> None:
    weights = _weights()
    torch.save(weights, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=is_archive)
    (tmp_path / "config.json").write_text("{}")
    paths = convert_pickles(tmp_path, {"config.json", "pytorch_model.bin"})
    assert paths == {"config.json", "model.safetensors"} == {path.name for path in tmp_path.iterdir()}
    _assert_equal(load_file(tmp_path / "model.safetensors"), weights)


def test_shards_get_an_index_of_what_they_hold(tmp_path: Path) -> None:
    weights = _weights()
    names = list(weights)
    for shard, part in zip(_SHARDS, (names[:1], names[1:]), strict=True):
        torch.save({name: weights[name] for name in part}, tmp_path / shard)
    # Whatever it says: it names files, and is not believed.
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"lm_head.weight": "../../etc/passwd"}}')
    paths = convert_pickles(tmp_path, {*_SHARDS, "pytorch_model.bin.index.json"})
    made = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert paths == {*made, "model.safetensors.index.json"} == {path.name for path in tmp_path.iterdir()}
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == made
    checkpoint = Checkpoint(tmp_path)
    _assert_equal({name: checkpoint.read(name) for name in index["weight_map"]}, weights)


def test_the_single_file_is_preferred_to_shards(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    torch.save({"a": torch.zeros(1)}, tmp_path / _SHARDS[0])
    assert convert_pickles(tmp_path, {"pytorch_model.bin", _SHARDS[0]}) == {"model.safetensors"}
    assert load_file(tmp_path / "model.safetensors")["a"].item() == 1


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (str(self._path),)


@pytest.mark.parametrize("how", ["archive", "before-1.6", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path: Path, how: str) -> None:
    trap = tmp_path / "trapped"
    content = {"weight": torch.ones(2), "trap": _Trap(trap)}
    source = tmp_path / "source"
    source.mkdir()
    if how == "plain pickle":
        (source / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap(trap), protocol=2))
    else:
        torch.save(content, source / "pytorch_model.bin", _use_new_zipfile_serialization=how == "archive")
    with pytest.raises(ContainerFailure) as raised:
        convert_pickles(source, {"pytorch_model.bin"})
    assert raised.value.code is FailureCode.SOURCE_UNSAFE
    assert "pytorch_model.bin" in raised.value.message and "safetensors" in raised.value.message
    assert "weights_only=False" not in raised.value.message
    assert not trap.exists()
    assert {path.name for path in source.iterdir()} == {"pytorch_model.bin"}


@pytest.mark.parametrize(
    "content",
    [
        {},
        [torch.ones(2)],
        torch.ones(2),
        {"epoch": 3, "weight": torch.ones(2)},
        {"state_dict": {"weight": torch.ones(2)}},
        {3: torch.ones(2)},
        {"sparse": torch.ones(2, 2).to_sparse()},
    ],
    ids=["empty", "list", "tensor", "number", "nested", "unnamed", "sparse"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ContainerFailure) as raised:
        convert_pickles(tmp_path, {"pytorch_model.bin"})
    assert raised.value.code is FailureCode.UNSUPPORTED_MODEL


@pytest.mark.parametrize("body", [b"", b"not a pickle", b"PK\x03\x04 nor an archive", bytes(5000)])
def test_what_is_no_pickle_is_refused(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(body)
    with pytest.raises(ContainerFailure) as raised:
        convert_pickles(tmp_path, {"pytorch_model.bin"})
    assert raised.value.code in (FailureCode.UNSUPPORTED_MODEL, FailureCode.SOURCE_UNSAFE)


def test_a_tensor_that_two_shards_hold_is_refused(tmp_path: Path) -> None:
    for shard in _SHARDS:
        torch.save({"a": torch.ones(1)}, tmp_path / shard)
    with pytest.raises(ContainerFailure, match="both hold a"):
        convert_pickles(tmp_path, set(_SHARDS))


def test_a_snapshot_of_pickles_holds_safetensors(tmp_path: Path) -> None:
    claim = tmp_path / "claim"
    claim.mkdir()
    (claim / "config.json").write_text("{}")
    torch.save(_weights(), claim / "pytorch_model.bin")
    origin = VolumeOrigin(claim_name="weights")
    source = VolumeSource(origin, claim)
    digest = source_digest(source.files(), allow_pickle=True)

    def copy(folder: Path, allow_pickle: bool) -> list[str]:
        found = copy_snapshot(
            source, origin, digest, folder, lambda _done, _total: None, lambda: None, allow_pickle=allow_pickle
        )
        assert found.digest == digest
        return [file.path for file in found.files]

    assert copy(tmp_path / "allowed", True) == ["config.json", "model.safetensors"]
    with pytest.raises(ContainerFailure) as raised:
        copy(tmp_path / "not-allowed", False)
    assert raised.value.code is FailureCode.SOURCE_CHANGED
