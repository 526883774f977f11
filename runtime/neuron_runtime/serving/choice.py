"""One answer as it grows: from tokens to pieces of text that are certain to belong to it."""

from dataclasses import dataclass

from .detokenizer import Decode, Detokenizer, StopMatcher
from .generation import FinishReason, Progress
from .sampling import TokenLogprobs


@dataclass(frozen=True)
class SpokenToken:
    """A token of the answer, with what the model thought of it."""

    id: int
    logprobs: TokenLogprobs
    start: int
    """Where its text starts in the answer's."""


@dataclass(frozen=True)
class Piece:
    """A part of one answer; the last one says why it ends."""

    index: int
    text: str
    spoken: tuple[SpokenToken, ...] = ()
    """The tokens whose text starts in the piece, where they were asked for."""
    reason: FinishReason | None = None


class Choice:
    """One of the answers to a request."""

    def __init__(self, index: int, decode: Decode, stops: tuple[str, ...]) -> None:
        self._index = index
        self._detokenizer = Detokenizer(decode)
        self._stops = StopMatcher(stops)
        self._read = 0
        self._given = 0
        self._held: list[SpokenToken] = []
        self.tokens = 0
        """Tokens so far."""
        self.ended = False
        """Whether the last piece is out."""

    def take(self, progress: Progress) -> Piece | None:
        """The text that becomes certain with a step's tokens; None when there is none."""
        text = ""
        for number, token in enumerate(progress.tokens):
            self.tokens += 1
            if progress.logprobs:
                self._held.append(SpokenToken(token, progress.logprobs[number], self._read))
            added = self._detokenizer.add(token)
            self._read += len(added)
            text += self._stops.add(added)
            if self._stops.matched:
                return self._last(text, "stop")
        if progress.reason is None:
            return self._piece(text) if text else None
        text += self._stops.add(self._detokenizer.finish()) + self._stops.finish()
        # A stop string may have been completed by the very last piece.
        return self._last(text, "stop" if self._stops.matched else progress.reason)

    def _piece(self, text: str, reason: FinishReason | None = None) -> Piece:
        self._given += len(text)
        spoken = tuple(token for token in self._held if token.start < self._given)
        del self._held[: len(spoken)]
        return Piece(self._index, text, spoken, reason)

    def _last(self, text: str, reason: FinishReason) -> Piece:
        self.ended = True
        piece = self._piece(text, reason)
        # Tokens without text of their own are still the answer's; those of a stop string are not.
        rest = () if self._stops.matched else tuple(self._held)
        return Piece(self._index, piece.text, piece.spoken + rest, reason)
