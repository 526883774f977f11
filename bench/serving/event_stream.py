"""Reads a recorded HTTP/1.1 response of server-sent events: which event was complete when.

The response is read after it has ended. While it comes, the client only notes bytes and times, so that its own work
does not delay what it measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from serving.load import Answer

Piece = tuple[float, bytes]
"""When something came, and what."""

_DONE = b"[DONE]"


class BadResponse(Exception):
    """Not a stream of events; the message says what came instead."""


def read_answer(sent: float, pieces: Sequence[Piece]) -> Answer:
    """Raises BadResponse for anything but a whole stream."""
    head, rest = _split_head(pieces)
    status = head.split(b" ", 2)[1:2]
    body = _unchunked(rest) if b"transfer-encoding: chunked" in head.lower() else iter(rest)
    if status != [b"200"]:
        text = b"".join(part for _, part in body)
        raise BadResponse(f"status {b''.join(status).decode()}: {text[:300].decode('utf-8', 'replace')}")
    texts: list[float] = []
    usage: dict[str, Any] = {}
    for at, data in _events(body):
        if data == _DONE:
            if not usage:
                raise BadResponse("no usage was reported")
            return Answer(sent, tuple(texts), at, usage["prompt_tokens"], usage["completion_tokens"])
        document = json.loads(data)
        if "error" in document:
            raise BadResponse(str(document["error"])[:300])
        usage = document.get("usage") or usage
        if any(choice["delta"].get("content") for choice in document["choices"]):
            texts.append(at)
    raise BadResponse("the stream broke off")


def _split_head(pieces: Sequence[Piece]) -> tuple[bytes, list[Piece]]:
    head = b""
    for index, (at, data) in enumerate(pieces):
        head += data
        if b"\r\n\r\n" in head:
            head, _, first = head.partition(b"\r\n\r\n")
            return head, [(at, first), *pieces[index + 1 :]]
    raise BadResponse(f"no response; {len(head)} bytes came")


def _unchunked(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The content of a chunked body. A chunk has the time of the piece that completes it."""
    buffer = b""
    for at, data in pieces:
        buffer += data
        while b"\r\n" in buffer:
            size, _, rest = buffer.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16)
            if len(rest) < length + 2:
                break
            yield at, rest[:length]
            buffer = rest[length + 2 :]


def _events(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The data of each event, with the time of the piece that completes it."""
    buffer = b""
    for at, data in pieces:
        buffer += data
        *whole, buffer = buffer.split(b"\n\n")
        for event in whole:
            if event.startswith(b"data: "):
                yield at, event.removeprefix(b"data: ")
