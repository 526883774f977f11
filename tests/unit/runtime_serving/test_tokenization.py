"""What is read of a snapshot: the precedence of its files, and what is said of those that do not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.serving.chat_template import ChatTemplateError
from neuron_runtime.serving.json_grammar import UnknownTokens
from neuron_runtime.serving.tokenization import PromptTooLong, is_needed, load_tokenizer
from support.scripted_engine import END, byte_tokenizer

_MESSAGES = [{"role": "user", "content": "x"}]


def _snapshot(folder: Path, **files: Any) -> Path:
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({"config": {"eos_token_id": 3}}, {3}),
        ({"config": {"eos_token_id": 3}, "generation_config": {"eos_token_id": [4, 5]}}, {4, 5}),
        ({"config": {"eos_token_id": 3}, "generation_config": {"temperature": 1}}, {3}),
        ({"config": {"eos_token_id": 3}, "tokenizer_config": {"eos_token": {"content": END}}}, {3, 256}),
        ({"special_tokens_map": {"eos_token": END}}, {256}),
        ({"tokenizer_config": {"eos_token": "unknown"}}, set()),
        ({}, set()),
    ],
)
def test_end_tokens(tmp_path: Path, files: dict[str, Any], ends: set[int]) -> None:
    assert load_tokenizer(_snapshot(tmp_path, **files)).end_tokens == ends


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"chat_template": "right"}},
        {
            "tokenizer_config": {
                "chat_template": [{"name": "tool", "template": "x"}, {"name": "default", "template": "right"}]
            }
        },
        {"tokenizer_config": {"chat_template": "wrong"}, "chat_template": {"chat_template": "right"}},
    ],
)
def test_chat_template(tmp_path: Path, files: dict[str, Any]) -> None:
    tokenizer = load_tokenizer(_snapshot(tmp_path, **files))
    assert tokenizer.decode(tokenizer.encode_chat(_MESSAGES, 100)) == "right"


def test_a_template_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("right")
    tokenizer = load_tokenizer(_snapshot(tmp_path, tokenizer_config={"chat_template": "wrong"}))
    assert tokenizer.decode(tokenizer.encode_chat(_MESSAGES, 100)) == "right"


def test_a_model_without_a_template_cannot_chat(tmp_path: Path) -> None:
    with pytest.raises(ChatTemplateError, match="no chat template"):
        load_tokenizer(_snapshot(tmp_path)).encode_chat(_MESSAGES, 100)


def test_what_a_saved_tokenizer_would_cut_or_fill_up(tmp_path: Path) -> None:
    saved = byte_tokenizer()
    saved.enable_truncation(2)
    saved.enable_padding(length=50)
    saved.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}{{ messages[0].content }}ab")
    assert len(load_tokenizer(tmp_path).encode_chat(_MESSAGES, 100)) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "no tokenizer.json"),
        ("tokenizer.json", "{}", "tokenizer.json cannot be read"),
        ("tokenizer_config.json", "{", "tokenizer_config.json is not JSON"),
        ("generation_config.json", "[]", "generation_config.json is not a JSON object"),
        ("chat_template.jinja", "{% if %}", "does not parse"),
    ],
)
def test_files_that_do_not_do(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    _snapshot(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ContainerFailure, match=message) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.code is FailureCode.UNSUPPORTED_MODEL


def test_a_text_that_cannot_fit_is_refused_before_it_is_cut_into_tokens(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    tokenizer = load_tokenizer(_snapshot(tmp_path))
    # The longest token is the one that ends an answer.
    text = "x" * (10 * len(END))
    assert len(tokenizer.encode_chat([{"role": "user", "content": text}], 10)) == len(text)
    with pytest.raises(PromptTooLong):
        tokenizer.encode_chat([{"role": "user", "content": text + "x"}], 10)


def test_white_space_that_makes_no_tokens_does_not_make_a_text_too_long(tmp_path: Path) -> None:
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    folder = _snapshot(tmp_path)
    words.save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode_text("a" + 1000 * " " + "b", 2, special=True) == [1, 2]
    with pytest.raises(PromptTooLong):
        tokenizer.encode_text(11 * "a ", 2, special=True)


def test_ids_with_gaps_cannot_be_held_to_json(tmp_path: Path) -> None:
    with_gap = {character: number for number, character in enumerate("abc}")} | {"{": 300}
    folder = _snapshot(tmp_path)
    Tokenizer(models.BPE(with_gap, [])).save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    for _ in range(2):
        with pytest.raises(UnknownTokens, match="gaps"):
            tokenizer.json_grammar()


def test_weights_are_not_fetched_for_the_tokenizer() -> None:
    assert [path for path in ("config.json", "model.safetensors", "merges.txt") if is_needed(path)] == [
        "config.json",
        "merges.txt",
    ]
