"""A two-layer Llama with random weights and a real byte-level tokenizer: all that tests of the machinery need.

The same seed gives the same bytes. Neither torch nor transformers is needed to make it; both can load it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from neuron_localcluster.standins import bfloat16, tokenizer
from neuron_localcluster.standins.bfloat16 import Float32
from neuron_localcluster.standins.llama import Llama

_SPECIAL = (tokenizer.END_OF_TEXT, tokenizer.TURN_BEGIN, tokenizer.TURN_END)
_TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_CORPUS = (
    "You are a helpful assistant. The user asks a question, and the assistant answers it in a few words.",
    "What is the capital of France? The capital of France is Paris, a city on the river Seine.",
    "A compiler turns a program into instructions; a scheduler decides where each of them runs, and when.",
    "Count the numbers: one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve.",
    "Tell me about the weather in the north: it is cold and it rains, but the summers are light and long.",
)


def tiny_llama(folder: Path, seed: int = 0) -> None:
    """Write the model's files into an existing folder."""
    built = _train_tokenizer()
    vocabulary = built.get_vocab()
    model = Llama(
        layers=2,
        hidden_size=64,
        intermediate_size=128,
        heads=4,
        key_value_heads=2,
        vocabulary=len(vocabulary),
        max_positions=512,
        rope_theta=10000.0,
        norm_epsilon=1e-5,
        tied_embeddings=False,
        begin_token=vocabulary[tokenizer.TURN_BEGIN],
        end_token=vocabulary[tokenizer.TURN_END],
    )
    generator = np.random.default_rng(seed)
    shapes = model.shapes()

    def load(name: str) -> Float32:
        shape = shapes[name]
        if "norm" in name:
            return np.ones(shape, np.float32)
        # Large enough that the likeliest token stands clear of the next: rounding then changes no greedy answer.
        scale = 1.0 if "embed" in name else shape[-1] ** -0.5
        return generator.standard_normal(shape, np.float32) * np.float32(scale)

    model.write_configuration(folder)
    tokenizer.write(folder, built, special=_SPECIAL, template=_TEMPLATE, max_length=model.max_positions)
    bfloat16.write(folder / "model.safetensors", shapes, load)


def _train_tokenizer() -> Tokenizer:
    built = Tokenizer(models.BPE())
    tokenizer.prepare(built, _SPECIAL)
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        min_frequency=1,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    built.train_from_iterator(_CORPUS, trainer)
    return built
