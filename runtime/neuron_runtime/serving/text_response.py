"""Bodies of completions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from .choice import Piece, SpokenToken
from .generation import FinishReason
from .response_body import Head, HeadDocument, Usage, UsageDocument, server_sent_event


class TextLogprobs(TypedDict):
    """Tokens of a text, each with the likeliest ones in its place."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(TypedDict):
    """One of the answers to a request, or the piece of it that an event adds."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class _TextBody(HeadDocument):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class TextCompletion(_TextBody):
    """The whole answer to a request."""

    usage: UsageDocument


class TextCompletionChunk(_TextBody):
    """One event of an answer that is streamed."""

    usage: NotRequired[UsageDocument | None]


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

    def whole(self, choices: Sequence[Piece], usage: Usage) -> TextCompletion:
        """The body of an answer that is not streamed."""
        return {
            "object": "text_completion",
            **self.head.document(),
            "choices": [self._choice(choice, choice.reason) for choice in choices],
            "usage": usage.document(),
        }

    def first(self, index: int) -> bytes:
        """Nothing opens a text."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """The event for a piece of text."""
        return self._chunk([self._choice(piece, None)])

    def last(self, index: int, reason: FinishReason) -> bytes:
        """The event that says why a text ends."""
        return self._chunk([{"index": index, "text": "", "logprobs": None, "finish_reason": reason}])

    def usage(self, usage: Usage) -> bytes:
        """The event that tells the usage."""
        return self._chunk([], usage.document())

    def _chunk(self, choices: list[TextChoice], usage: UsageDocument | None = None) -> bytes:
        chunk: TextCompletionChunk = {
            "object": "text_completion",
            **self.head.document(),
            "choices": choices,
            "usage": usage,
        }
        if not self.include_usage:
            del chunk["usage"]
        return server_sent_event(chunk)

    def _choice(self, piece: Piece, reason: FinishReason | None) -> TextChoice:
        return {
            "index": piece.index,
            "text": piece.text,
            "logprobs": self._logprobs(piece.spoken),
            "finish_reason": reason,
        }

    def _logprobs(self, spoken: Sequence[SpokenToken]) -> TextLogprobs | None:
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
