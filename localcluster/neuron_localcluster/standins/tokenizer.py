"""The tokenizer files of a model folder: byte-level BPE with a ChatML-like template, as SmolLM2 has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers

END_OF_TEXT = "<|endoftext|>"
TURN_BEGIN = "<|im_start|>"
TURN_END = "<|im_end|>"


def prepare(tokenizer: Tokenizer, special: Sequence[str]) -> None:
    """Give a BPE model the steps around it: single digits, bytes as letters, and special tokens kept whole."""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])


def write(folder: Path, tokenizer: Tokenizer, *, special: Sequence[str], template: str, max_length: int) -> None:
    """Write tokenizer.json and the two configurations that go with it; turns end with TURN_END."""
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {"bos_token": TURN_BEGIN, "eos_token": TURN_END, "unk_token": END_OF_TEXT, "pad_token": TURN_END}
    write_json(folder / "special_tokens_map.json", {**roles, "additional_special_tokens": [TURN_BEGIN, TURN_END]})
    decoder = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in special
    }
    configuration = {
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": [TURN_BEGIN, TURN_END],
        **roles,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "tokenizer_class": "GPT2Tokenizer",
    }
    write_json(folder / "tokenizer_config.json", configuration)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file as repositories of models have them."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
