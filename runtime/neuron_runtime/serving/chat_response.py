"""Bodies of chat completions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .choice import Piece, SpokenToken
from .generation import FinishReason
from .response_body import Head, Usage

_WHOLE = "chat.completion"
_CHUNK = "chat.completion.chunk"


@dataclass(frozen=True)
class ChatFormat:
    """How chat completions are worded."""

    head: Head
    text_of: Callable[[int], str]
    logprobs: bool

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.head.include_usage

    def whole(self, choices: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        documents = [
            {
                "index": choice.index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": self._logprobs(choice.spoken),
                "finish_reason": choice.reason,
            }
            for choice in choices
        ]
        return {**self.head.document(_WHOLE), "choices": documents, "usage": usage.document()}

    def first(self, index: int) -> bytes:
        """The event that opens a choice."""
        return self._event(index, {"role": "assistant", "content": ""})

    def piece(self, piece: Piece) -> bytes:
        """The event for a piece of text."""
        return self._event(piece.index, {"content": piece.text}, self._logprobs(piece.spoken))

    def last(self, index: int, reason: FinishReason) -> bytes:
        """The event that says why a choice ends."""
        return self._event(index, {}, reason=reason)

    def usage(self, usage: Usage) -> bytes:
        """The event that tells the usage."""
        return self.head.usage(_CHUNK, usage)

    def _event(
        self,
        index: int,
        delta: dict[str, str],
        logprobs: dict[str, Any] | None = None,
        reason: FinishReason | None = None,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self.head.event(_CHUNK, choice)

    def _logprobs(self, spoken: Sequence[SpokenToken]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        content = [
            {
                **self._entry(token.id, token.logprobs.chosen),
                "top_logprobs": [self._entry(other, logprob) for other, logprob in token.logprobs.top],
            }
            for token in spoken
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.text_of(token)
        # A token can be a part of a character: its bytes are not in what it decodes to.
        whole = "\N{REPLACEMENT CHARACTER}" not in text
        return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if whole else None}
