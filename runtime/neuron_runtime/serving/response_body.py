"""What bodies of answers have in common, whole and as server-sent events."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from typing_extensions import TypedDict

from .choice import Piece
from .generation import FinishReason

DONE_WORD = "[DONE]"
DONE = f"data: {DONE_WORD}\n\n".encode()


class UsageDocument(TypedDict):
    """Tokens of one request, as OpenAI counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class HeadDocument(TypedDict):
    """What all bodies that answer one request have in common."""

    id: str
    created: int
    model: str
    system_fingerprint: str


@dataclass(frozen=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int

    def document(self) -> UsageDocument:
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

    def whole(self, choices: Sequence[Piece], usage: Usage) -> Mapping[str, object]:
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

    def document(self) -> HeadDocument:
        """The common members."""
        return {
            "id": f"{self.prefix}-{self.id}",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def server_sent_event(document: Mapping[str, object]) -> bytes:
    """One event. JSON has no line breaks outside of strings and escapes those within, so it is one `data` line."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
