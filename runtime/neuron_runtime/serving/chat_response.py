"""Bodies of chat completions, whole and as server-sent events."""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True)
class ChatResponse:
    """What all bodies that answer one request have in common."""

    model: str
    fingerprint: str
    """Names the artifact: equal fingerprints and seeds give equal answers."""
    include_usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, reason: FinishReason, usage: Usage) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage.document()}

    def first(self) -> bytes:
        """The event that opens a stream."""
        return self._event({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> bytes:
        """The event for a piece of text."""
        return self._event({"content": text}, None)

    def last(self, reason: FinishReason) -> bytes:
        """The event that says why the text ends."""
        return self._event({}, reason)

    def usage(self, usage: Usage) -> bytes:
        """The event that follows the last one when the request asked for it."""
        return server_sent_event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage.document()})

    def _event(self, delta: dict[str, str], reason: FinishReason | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        body = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return server_sent_event({**body, "usage": None} if self.include_usage else body)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def server_sent_event(document: dict[str, Any]) -> bytes:
    """One event. JSON has no line breaks outside of strings and escapes those within, so it is one `data` line."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()
