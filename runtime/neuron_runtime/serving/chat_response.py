"""Bodies of chat completions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from typing_extensions import NotRequired, TypedDict

from .choice import Piece, SpokenToken
from .generation import FinishReason
from .response_body import Head, HeadDocument, Usage, UsageDocument, server_sent_event


class TokenLogprob(TypedDict):
    """A token, and what the model thought of it."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatTokenLogprob(TokenLogprob):
    """A token of the answer, with the likeliest ones in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(TypedDict):
    """Tokens of the answer."""

    content: list[ChatTokenLogprob]
    refusal: None


class ChatMessage(TypedDict):
    """An answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """One of the answers to a request."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletion(HeadDocument):
    """The whole answer to a request."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: UsageDocument


class ChatDelta(TypedDict):
    """What an event adds to an answer."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


class ChatChunkChoice(TypedDict):
    """One of the answers as far as an event tells it."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(HeadDocument):
    """One event of an answer that is streamed."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: NotRequired[UsageDocument | None]


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

    def whole(self, choices: Sequence[Piece], usage: Usage) -> ChatCompletion:
        """The body of an answer that is not streamed."""
        return {
            "object": "chat.completion",
            **self.head.document(),
            "choices": [self._choice(choice) for choice in choices],
            "usage": usage.document(),
        }

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
        return self._chunk([], usage.document())

    def _choice(self, choice: Piece) -> ChatChoice:
        return {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": self._logprobs(choice.spoken),
            "finish_reason": choice.reason,
        }

    def _event(
        self,
        index: int,
        delta: ChatDelta,
        logprobs: ChatLogprobs | None = None,
        reason: FinishReason | None = None,
    ) -> bytes:
        return self._chunk([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}])

    def _chunk(self, choices: list[ChatChunkChoice], usage: UsageDocument | None = None) -> bytes:
        chunk: ChatCompletionChunk = {
            "object": "chat.completion.chunk",
            **self.head.document(),
            "choices": choices,
            "usage": usage,
        }
        if not self.include_usage:
            del chunk["usage"]
        return server_sent_event(chunk)

    def _logprobs(self, spoken: Sequence[SpokenToken]) -> ChatLogprobs | None:
        if not self.logprobs:
            return None
        content: list[ChatTokenLogprob] = [
            {
                **self._entry(token.id, token.logprobs.chosen),
                "top_logprobs": [self._entry(other, logprob) for other, logprob in token.logprobs.top],
            }
            for token in spoken
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float) -> TokenLogprob:
        text = self.text_of(token)
        # A token can be a part of a character: its bytes are not in what it decodes to.
        whole = "\N{REPLACEMENT CHARACTER}" not in text
        return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if whole else None}
