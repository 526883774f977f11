"""What llama.cpp gets: the checkpoint's numbers, with the rows of queries and keys in GGUF's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.torch import load_file

from neuron_localcluster.standins.tiny_llama import tiny_llama
from serving.gguf_file import interleaved, stored_name, write_gguf


def test_halves_of_each_head_are_interleaved() -> None:
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert interleaved(rows, heads=2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert interleaved(rows, heads=0) is rows


def test_every_tensor_is_in_the_file(tmp_path: Path) -> None:
    tiny_llama(tmp_path)
    write_gguf(tmp_path, tmp_path / "model.gguf")
    reader = GGUFReader(tmp_path / "model.gguf")
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    checkpoint = {name: tensor.float().numpy() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    assert stored.keys() == {stored_name(name) for name in checkpoint}
    for name, heads in (("lm_head.weight", 0), ("model.layers.1.self_attn.k_proj.weight", 2)):
        np.testing.assert_array_equal(stored[stored_name(name)], interleaved(checkpoint[name], heads))
    assert reader.fields["llama.attention.head_count_kv"].contents() == 2
    assert reader.fields["llama.vocab_size"].contents() == len(checkpoint["lm_head.weight"])
