"""Recorded responses: what was complete when, however the network cut it."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.event_stream import BadResponse, read_answer

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


def _event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _delta(content: str | None) -> bytes:
    delta = {} if content is None else {"content": content}
    return _event({"choices": [{"delta": delta}], "usage": None})


_EVENTS = (
    _delta(""),
    _delta("Once"),
    _delta(" upon"),
    _delta(None),
    _event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
    b"data: [DONE]\n\n",
)


def _chunked(events: tuple[bytes, ...]) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    return _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def _cut(response: bytes, cuts: list[int]) -> list[tuple[float, bytes]]:
    """Pieces between the cuts; each comes at the offset of its end."""
    edges = sorted({0, len(response), *(cut % len(response) for cut in cuts)})
    return [(float(end), response[start:end]) for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, 5000)))
def test_an_event_has_the_time_of_the_piece_that_completes_it(cuts: list[int]) -> None:
    response = _chunked(_EVENTS)
    pieces = _cut(response, cuts)
    answer = read_answer(0.5, pieces)

    def completed(event: bytes) -> float:
        end = response.index(event) + len(event) + len(b"\r\n")
        return next(at for at, _ in pieces if at >= end)

    assert answer.texts == (completed(_EVENTS[1]), completed(_EVENTS[2]))
    assert answer.ended == completed(_EVENTS[-1])
    assert (answer.sent, answer.prompt_tokens, answer.tokens, answer.error) == (0.5, 5, 2, None)


def test_a_body_that_is_not_chunked() -> None:
    answer = read_answer(0.0, [(1.0, _HEAD + b"\r\n"), (2.0, b"".join(_EVENTS))])
    assert answer.texts == (2.0, 2.0)


@pytest.mark.parametrize(
    ("response", "named"),
    [
        (b"", "no response"),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nfull", "status 429: full"),
        (_chunked(_EVENTS[:3]), "broke off"),
        (_chunked((_EVENTS[1], _EVENTS[-1])), "no usage"),
        (_chunked((_EVENTS[1], _event({"error": {"message": "the engine failed"}}))), "the engine failed"),
    ],
)
def test_what_is_no_answer_says_what_it_is(response: bytes, named: str) -> None:
    with pytest.raises(BadResponse, match=named):
        read_answer(0.0, [(1.0, response)] if response else [])
