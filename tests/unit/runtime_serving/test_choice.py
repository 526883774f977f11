"""An answer as it grows: which tokens go with which piece of text, and what ends it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from neuron_runtime.serving.choice import Choice, Piece
from neuron_runtime.serving.generation import FinishReason, Progress
from neuron_runtime.serving.sampling import TokenLogprobs


def _decode(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode(errors="replace")


def _pieces(answer: bytes, stops: tuple[str, ...] = (), reason: FinishReason = "stop") -> list[Piece]:
    choice, pieces = Choice(0, _decode, stops), list[Piece]()
    for token in answer:
        piece = choice.take(Progress((token,), None, (TokenLogprobs(-float(token), ()),)))
        pieces += [piece] if piece else []
        if choice.ended:
            return pieces
    last = choice.take(Progress((), reason))
    assert last is not None and choice.ended
    return [*pieces, last]


@pytest.mark.parametrize(
    ("answer", "stops", "text", "tokens"),
    [
        (b"abc", (), "abc", b"abc"),
        ("a€b".encode(), (), "a€b", "a€b".encode()),
        (b"one two", ("two",), "one ", b"one "),
        (b"one tw", ("two",), "one tw", b"one tw"),
        (b"two", ("two",), "", b""),
    ],
)
def test_tokens_go_with_their_text_and_those_of_a_stop_string_are_left_out(
    answer: bytes, stops: tuple[str, ...], text: str, tokens: bytes
) -> None:
    pieces = _pieces(answer, stops)
    assert "".join(piece.text for piece in pieces) == text
    spoken = [token for piece in pieces for token in piece.spoken]
    assert bytes(token.id for token in spoken) == tokens
    assert [token.logprobs.chosen for token in spoken] == [-float(token) for token in tokens]
    assert pieces[-1].reason == "stop"
    assert all(piece.reason is None for piece in pieces[:-1])


def test_offsets_are_where_a_tokens_text_starts() -> None:
    spoken = [token for piece in _pieces("a€b".encode()) for token in piece.spoken]
    assert [token.start for token in spoken] == [0, 1, 1, 1, 2]


def test_an_incomplete_character_at_the_end_keeps_its_tokens() -> None:
    (first, last) = _pieces(b"a" + "€".encode()[:2], reason="length")
    assert (first.text, last.text, last.reason) == ("a", "\N{REPLACEMENT CHARACTER}", "length")
    assert len(last.spoken) == 2


def test_text_that_is_held_back_keeps_its_tokens() -> None:
    pieces = _pieces(b"ab!", ("abc",))
    assert [(piece.text, bytes(token.id for token in piece.spoken)) for piece in pieces] == [("ab!", b"ab!"), ("", b"")]
