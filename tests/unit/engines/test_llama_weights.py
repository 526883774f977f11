"""Checkpoints that do not hold what their config.json says: each is refused by name, before anything is served."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.engines.llama_config import parse_llama_config
from neuron_runtime.engines.llama_weights import write_llama_weights
from neuron_runtime.engines.model_config import read_config

_QUERY = "model.layers.0.self_attn.q_proj.weight"


def _index(folder: Path, document: str) -> None:
    (folder / "model.safetensors.index.json").write_text(document)


def _reshape(folder: Path, tensor: torch.Tensor) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, _QUERY: tensor}, folder / "model.safetensors")


def _lead_out(folder: Path) -> None:
    outside = folder.parent / "outside.safetensors"
    outside.write_bytes((folder / "model.safetensors").read_bytes())
    _index(folder, json.dumps({"weight_map": dict.fromkeys(load_file(outside), "../outside.safetensors")}))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: _index(folder, "{"), "weight_map"),
        (lambda folder: _index(folder, "[]"), "weight_map"),
        (lambda folder: _index(folder, '{"weight_map": ["a"]}'), "weight_map"),
        (lambda folder: _index(folder, '{"weight_map": {"a": 1}}'), "weight_map"),
        (lambda folder: _index(folder, '{"weight_map": {}}'), "names no file that holds model.embed_tokens.weight"),
        (_lead_out, "names no file"),
        (lambda folder: _reshape(folder, torch.zeros(3, 3)), "do not fit its config.json"),
        (lambda folder: _reshape(folder, torch.zeros(3)), "which is no matrix"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"version https://git-lfs"), "model.safetensors: "),
        (lambda folder: (folder / "model.safetensors").unlink(), "it has neither"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], object], named: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    tiny_llama(source)
    spoil(source)
    with pytest.raises(ContainerFailure, match=named) as caught:
        write_llama_weights(parse_llama_config(read_config(source)), 64, source, tmp_path / "weights")
    assert caught.value.code is FailureCode.UNSUPPORTED_MODEL
