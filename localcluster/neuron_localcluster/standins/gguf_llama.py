"""Turns a Llama model in a GGUF file into a folder in the transformers form, its weights in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, models

from neuron_localcluster.standins import bfloat16, tokenizer
from neuron_localcluster.standins.bfloat16 import Float32
from neuron_localcluster.standins.llama import Llama

_CONTROL_TOKEN = 3
_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def convert(source: Path, folder: Path, report: Callable[[float], None]) -> None:
    """Write the model's files into the folder; `report` gets the share of tensors that are written.

    Raises KeyError where the file is not a Llama model with a byte-level tokenizer.
    """
    reader = GGUFReader(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    model = _dimensions(reader, tied="output.weight" not in tensors)
    shapes = model.shapes()
    written = 0

    def load(name: str) -> Float32:
        nonlocal written
        stored = tensors[_stored_name(name)]
        values = dequantize(stored.data, stored.tensor_type).astype(np.float32, copy=False)
        written += 1
        report(written / len(shapes))
        return _restore_rotation(name, values, model)

    model.write_configuration(folder)
    _write_tokenizer(reader, folder, model.max_positions)
    bfloat16.write(folder / "model.safetensors", shapes, load)


def _dimensions(reader: GGUFReader, *, tied: bool) -> Llama:
    return Llama(
        layers=_field(reader, "llama.block_count"),
        hidden_size=_field(reader, "llama.embedding_length"),
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        heads=_field(reader, "llama.attention.head_count"),
        key_value_heads=_field(reader, "llama.attention.head_count_kv"),
        vocabulary=_field(reader, "llama.vocab_size"),
        max_positions=_field(reader, "llama.context_length"),
        rope_theta=_field(reader, "llama.rope.freq_base"),
        # Kept as float32, of which the decimal number that was meant is the shortest that reads the same.
        norm_epsilon=float(str(np.float32(_field(reader, "llama.attention.layer_norm_rms_epsilon")))),
        tied_embeddings=tied,
        begin_token=_field(reader, "tokenizer.ggml.bos_token_id"),
        end_token=_field(reader, "tokenizer.ggml.eos_token_id"),
    )


def _stored_name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    layer, _, part = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
    return f"blk.{layer}.{_LAYER_NAMES[part]}.weight"


def _restore_rotation(name: str, values: Float32, model: Llama) -> Float32:
    # GGUF interleaves the two halves of each head that rotary embeddings turn together; transformers keeps them apart.
    if name.endswith("q_proj.weight"):
        heads = model.heads
    elif name.endswith("k_proj.weight"):
        heads = model.key_value_heads
    else:
        return values
    return values.reshape(heads, model.head_size // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)


def _write_tokenizer(reader: GGUFReader, folder: Path, max_length: int) -> None:
    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in _field(reader, "tokenizer.ggml.merges")]
    kinds = _field(reader, "tokenizer.ggml.token_type")
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    built = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.prepare(built, special)
    template = _field(reader, "tokenizer.chat_template")
    tokenizer.write(folder, built, special=special, template=template, max_length=max_length)


def _field(reader: GGUFReader, name: str) -> Any:
    return reader.fields[name].contents()
