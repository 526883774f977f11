"""Detokenization with a real byte-level tokenizer: pieces never split a character, and stop strings end the text."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from neuron_runtime.serving.detokenizer import Detokenizer, StopMatcher

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@pytest.fixture(scope="module")
def byte_tokenizer() -> Tokenizer:
    """One token for each byte: every character beyond ASCII takes several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.mark.parametrize("text", ["plain", "naïve café", "日本語のテキスト", "👩‍👩‍👧 family", "a\n\tb  c", ""])
def test_pieces_join_to_the_text_and_hold_whole_characters(byte_tokenizer: Tokenizer, text: str) -> None:
    detokenizer = Detokenizer(byte_tokenizer.decode)
    pieces = [detokenizer.add(token) for token in byte_tokenizer.encode(text).ids]
    assert _REPLACEMENT not in "".join(pieces)
    assert "".join(pieces) + detokenizer.finish() == text


def test_an_incomplete_character_comes_out_at_the_end_only(byte_tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(byte_tokenizer.decode)
    tokens = byte_tokenizer.encode("x€").ids[:-1]
    assert "".join(detokenizer.add(token) for token in tokens) == "x"
    assert detokenizer.finish() == _REPLACEMENT
    assert detokenizer.finish() == ""


def test_invalid_bytes_do_not_hold_back_what_follows(byte_tokenizer: Tokenizer) -> None:
    broken = byte_tokenizer.encode("€").ids[0]
    tokens = [broken, broken, *byte_tokenizer.encode("ok").ids]
    detokenizer = Detokenizer(byte_tokenizer.decode)
    assert "".join(detokenizer.add(token) for token in tokens) == f"{_REPLACEMENT * 2}ok"


def test_spaces_that_depend_on_the_token_before_are_kept() -> None:
    # A Metaspace decoder drops the space of whatever comes first: decoding token by token would lose all of them.
    tokenizer = Tokenizer(models.WordLevel({"▁one": 0, "▁two": 1, "s": 2}, unk_token="s"))
    tokenizer.decoder = decoders.Metaspace()
    detokenizer = Detokenizer(tokenizer.decode)
    assert [detokenizer.add(token) for token in (0, 1, 2, 0)] == ["one", " two", "s", " one"]


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "matched"),
    [
        (["Hello", " wor", "ld"], [], "Hello world", False),
        (["Hello", " wor", "ld"], [" world"], "Hello", True),
        (["abc", "abd"], ["abd"], "abc", True),
        (["aab", "b"], ["abb"], "a", True),
        (["one two"], ["two", "ne"], "o", True),
        (["END"], ["END"], "", True),
        (["EN", "D"], ["ENDE"], "END", False),
        (["x", "\n", "\n", "y"], ["\n\n"], "x", True),
    ],
)
def test_stop_strings_across_pieces(pieces: list[str], stops: list[str], text: str, matched: bool) -> None:
    matcher = StopMatcher(stops)
    out = "".join(matcher.add(piece) for piece in pieces) + matcher.finish()
    assert (out, matcher.matched) == (text, matched)


def test_what_cannot_begin_a_stop_string_is_given_out_at_once() -> None:
    matcher = StopMatcher(["STOP"])
    assert [matcher.add("a S"), matcher.add("x"), matcher.add(" ST"), matcher.add("OPPED"), matcher.add("y")] == [
        "a ",
        "Sx",
        " ",
        "",
        "",
    ]
