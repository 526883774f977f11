"""Bodies of completions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .choice import Piece, SpokenToken
from .generation import FinishReason
from .response_body import Head, Usage

_KIND = "text_completion"


@dataclass(frozen=True)
class TextFormat:
    """How completions are worded."""

    head: Head
    text_of: Callable[[int], str]
    logprobs: bool

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.head.include_usage

    def whole(self, choices: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        documents = [self._choice(choice, choice.reason) for choice in choices]
        return {**self.head.document(_KIND), "choices": documents, "usage": usage.document()}

    def first(self, index: int) -> bytes:
        """Nothing opens a text."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """The event for a piece of text."""
        return self.head.event(_KIND, self._choice(piece, None))

    def last(self, index: int, reason: FinishReason) -> bytes:
        """The event that says why a text ends."""
        choice = {"index": index, "text": "", "logprobs": None, "finish_reason": reason}
        return self.head.event(_KIND, choice)

    def usage(self, usage: Usage) -> bytes:
        """The event that tells the usage."""
        return self.head.usage(_KIND, usage)

    def _choice(self, piece: Piece, reason: FinishReason | None) -> dict[str, Any]:
        return {
            "index": piece.index,
            "text": piece.text,
            "logprobs": self._logprobs(piece.spoken),
            "finish_reason": reason,
        }

    def _logprobs(self, spoken: Sequence[SpokenToken]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {
            "tokens": [self.text_of(token.id) for token in spoken],
            "token_logprobs": [token.logprobs.chosen for token in spoken],
            "top_logprobs": [
                {self.text_of(other): logprob for other, logprob in token.logprobs.top} for token in spoken
            ],
            "text_offset": [token.start for token in spoken],
        }
