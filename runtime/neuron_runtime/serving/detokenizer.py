"""Turns a growing list of tokens into text, piece by piece, and ends it at stop strings.

Pieces never end within a character: byte-level tokens may hold parts of one, which decode to U+FFFD until it is whole.
"""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """The text of one answer."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        # Tokens before `_shown` are out. Those from `_context` on are decoded again with each new one: whether a
        # token starts with a space depends on what stands before it.
        self._context = 0
        self._shown = 0

    def add(self, token: int) -> str:
        """The text that this token completes; often the token's own, empty while a character is incomplete."""
        self._tokens.append(token)
        piece = self._pending()
        if not piece or piece.endswith(_REPLACEMENT):
            return ""
        self._context, self._shown = self._shown, len(self._tokens)
        return piece

    def finish(self) -> str:
        """What is left when no token follows, incomplete characters as U+FFFD."""
        piece = self._pending()
        self._context = self._shown = len(self._tokens)
        return piece

    def _pending(self) -> str:
        shown = self._decode(self._tokens[self._context : self._shown])
        return self._decode(self._tokens[self._context :])[len(shown) :]


class StopMatcher:
    """Cuts a text at the first of several stop strings, holding back what may turn out to be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched = False
        """Set once a stop string was found; nothing comes out after that."""

    def add(self, piece: str) -> str:
        """The part of the text so far that is certain to belong to the answer and was not given out before."""
        if self.matched:
            return ""
        text = self._held + piece
        found = [position for position in (text.find(stop) for stop in self._stops) if position >= 0]
        if found:
            self.matched = True
            self._held = ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """What was held back, when the text ends without a stop string."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
