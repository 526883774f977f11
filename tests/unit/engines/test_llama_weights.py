"""The weights that graphs take, out of a checkpoint: what is refused by name, and what the file holds in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_operator.planning.model_facts import model_facts
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import Quantization
from neuron_runtime.engines.llama_config import parse_llama_config
from neuron_runtime.engines.llama_weights import write_llama_weights
from neuron_runtime.engines.model_config import read_config
from neuron_runtime.engines.packed_int8 import int8_scales, to_int8
from neuron_runtime.engines.packed_linear import PANEL
from neuron_runtime.engines.weight_file import map_weights

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
        write_llama_weights(
            parse_llama_config(read_config(source)), 64, Quantization.NONE, source, tmp_path / "weights"
        )
    assert caught.value.code is FailureCode.UNSUPPORTED_MODEL


def _written(tmp_path: Path, quantization: Quantization) -> dict[str, npt.NDArray[Any]]:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    tiny_llama(source)
    config = parse_llama_config(read_config(source))
    write_llama_weights(config, 64, quantization, source, tmp_path / quantization.value)
    return map_weights(tmp_path / quantization.value)


@pytest.mark.parametrize("quantization", Quantization)
def test_the_planner_counts_what_the_file_holds(tmp_path: Path, quantization: Quantization) -> None:
    """But for the rotation's tables, and what fills the last panel of a matrix up."""
    weights = _written(tmp_path, quantization)
    facts = model_facts(read_config(tmp_path / "source"))
    held = sum(array.nbytes for name, array in weights.items() if name not in ("cosine", "sine"))
    filler = -facts.vocabulary % PANEL * facts.hidden_size * 2 * (4 if quantization is Quantization.NONE else 1)
    assert not facts.tied_embeddings
    assert held - filler == facts.weight_bytes(quantization, element_bytes=4)


def test_int8_is_the_nearest_that_its_columns_scale_allows(tmp_path: Path) -> None:
    exact, weights = (_written(tmp_path, quantization) for quantization in Quantization)
    matrices = [name for name, array in weights.items() if array.dtype == np.int8]
    assert len(matrices) == 2 + 4 * 2
    for name, array in weights.items():
        if name in matrices:
            outputs = len(weights[f"{name}_scales"])
            scales = np.zeros(array.shape[0] * PANEL, np.float32)
            scales[:outputs] = weights[f"{name}_scales"]
            panels = scales.reshape(-1, 1, PANEL)
            assert np.abs(array).max() == 127
            assert (np.abs(array * panels - exact[name]) <= panels * (0.5 + 1e-5)).all()
        elif not name.endswith("_scales"):
            np.testing.assert_array_equal(array, exact[name])


def test_a_column_of_zeros_stays_one() -> None:
    matrix = torch.tensor([[0.0, 1.0], [0.0, -4.0]])
    assert to_int8(matrix).tolist() == [[0, 32], [0, -127]]
    assert torch.isfinite(int8_scales(matrix)).all()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_int8_cannot_show_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        to_int8(torch.tensor([[1.0, 2.0], [number, 3.0]]))
