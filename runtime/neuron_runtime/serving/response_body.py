"""What bodies of answers have in common, whole and as server-sent events."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .choice import Piece
from .generation import FinishReason

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int

    def document(self) -> dict[str, int]:
        """As OpenAI counts."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class AnswerFormat(Protocol):
    """How one API words an answer."""

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""

    def whole(self, choices: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        """The body of an answer that is not streamed."""

    def first(self, index: int) -> bytes:
        """The event that opens a choice; empty where there is none."""

    def piece(self, piece: Piece) -> bytes:
        """The event for a piece of text."""

    def last(self, index: int, reason: FinishReason) -> bytes:
        """The event that says why a choice ends."""

    def usage(self, usage: Usage) -> bytes:
        """The event that follows the last one when the request asked for it."""


@dataclass(frozen=True)
class Head:
    """What all bodies that answer one request begin with."""

    prefix: str
    model: str
    fingerprint: str
    """Names the artifact: equal fingerprints and seeds give equal answers."""
    include_usage: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def document(self, kind: str) -> dict[str, Any]:
        """The common members."""
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def event(self, kind: str, choice: dict[str, Any]) -> bytes:
        """One event of a stream."""
        body = {**self.document(kind), "choices": [choice]}
        return server_sent_event({**body, "usage": None} if self.include_usage else body)

    def usage(self, kind: str, usage: Usage) -> bytes:
        """The event that tells the usage."""
        return server_sent_event({**self.document(kind), "choices": [], "usage": usage.document()})


def server_sent_event(document: dict[str, Any]) -> bytes:
    """One event. JSON has no line breaks outside of strings and escapes those within, so it is one `data` line."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
