"""The encoder's vectors are those of transformers, pooled as sentence-transformers does; what differs is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.engines.bert import Bert
from neuron_runtime.engines.bert_config import Pooling, VectorSettings, parse_bert_config, read_vector_settings
from neuron_runtime.engines.bert_weights import write_bert_weights
from neuron_runtime.engines.model_config import read_config
from support.tiny_bert import FIRST, MEAN, VOCABULARY, tiny_bert, token_vectors, use_modules

_LENGTHS = (7, 16, 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    tiny_bert(folder)
    return folder


def _change_config(source: Path, **changes: Any) -> None:
    (source / "config.json").write_text(json.dumps({**read_config(source), **changes}))


def _vectors(source: Path, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    config, vectors = parse_bert_config(read_config(source)), read_vector_settings(source)
    weights = source.parent / "weights.safetensors"
    write_bert_weights(config, vectors, source, weights)
    model = Bert(config, vectors)
    model.load_state_dict(load_file(weights))
    with torch.no_grad():
        result: torch.Tensor = model.eval()(tokens, lengths)
    return result


def _texts() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, VOCABULARY, (3, 16), generator=torch.Generator().manual_seed(1)), torch.tensor(_LENGTHS)


@pytest.mark.parametrize("normalized", [True, False])
def test_mean_vectors_are_those_of_transformers(source: Path, normalized: bool) -> None:
    use_modules(source, "Transformer", "Pooling", *(["Normalize"] if normalized else []), **{MEAN: True})
    tokens, lengths = _texts()
    hidden, mask = token_vectors(source, tokens, lengths)
    expected = (hidden * mask).sum(1) / mask.sum(1)
    if normalized:
        expected = torch.nn.functional.normalize(expected, dim=-1)
    assert torch.allclose(_vectors(source, tokens, lengths), expected, atol=1e-5)


def test_first_vectors_are_those_of_transformers(source: Path) -> None:
    use_modules(source, "Transformer", "Pooling", **{FIRST: True})
    tokens, lengths = _texts()
    hidden, _ = token_vectors(source, tokens, lengths)
    assert torch.allclose(_vectors(source, tokens, lengths), hidden[:, 0], atol=1e-5)


def test_a_text_has_the_same_vector_whatever_stands_in_its_pads_and_beside_it(source: Path) -> None:
    tokens, lengths = _texts()
    padded = tokens.clone()
    padded[0, _LENGTHS[0] :] = 95
    padded[1:] = 3
    assert torch.allclose(_vectors(source, tokens, lengths)[0], _vectors(source, padded, lengths)[0], atol=1e-6)


def test_without_files_of_sentence_transformers_vectors_are_means(source: Path) -> None:
    assert read_vector_settings(source) == VectorSettings(Pooling.MEAN, normalized=False)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["RobertaModel"]}, "RobertaModel"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_attention_heads": 5}, "5 heads"),
        ({"num_attention_heads": 0}, "num_attention_heads 0"),
        ({"vocab_size": "many"}, "vocab_size 'many'"),
        ({"layer_norm_eps": 0}, "layer_norm_eps 0"),
    ],
)
def test_a_configuration_that_is_not_implemented_is_refused_by_name(
    source: Path, change: dict[str, Any], named: str
) -> None:
    _change_config(source, **change)
    with pytest.raises(ContainerFailure, match=named) as caught:
        parse_bert_config(read_config(source))
    assert caught.value.code is FailureCode.UNSUPPORTED_MODEL


@pytest.mark.parametrize(
    ("kinds", "pooling", "named"),
    [
        (("Transformer", "Pooling", "Dense"), {MEAN: True}, "the module Dense"),
        (("Transformer", "Pooling"), {MEAN: True, FIRST: True}, f"{FIRST} and {MEAN}"),
        (("Transformer", "Pooling"), {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        (("Transformer", "Pooling"), {MEAN: False}, "no pooling mode"),
    ],
)
def test_other_ways_to_pool_are_refused_by_name(
    source: Path, kinds: tuple[str, ...], pooling: dict[str, bool], named: str
) -> None:
    use_modules(source, *kinds, **pooling)
    with pytest.raises(ContainerFailure, match=named):
        read_vector_settings(source)


def test_weights_of_another_shape_are_refused(source: Path) -> None:
    tensors = load_file(source / "model.safetensors")
    name = "encoder.layer.1.intermediate.dense.weight"
    save_file({**tensors, name: torch.zeros(3, 3)}, source / "model.safetensors")
    config, vectors = parse_bert_config(read_config(source)), read_vector_settings(source)
    with pytest.raises(ContainerFailure, match="do not fit its config"):
        write_bert_weights(config, vectors, source, source.parent / "weights.safetensors")
