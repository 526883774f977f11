"""What one request asks of an encoder, and what it hears of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from neuron_runtime.engines.base import Vectors

from .generation import Dropped, Failed

Text = Sequence[int]
"""Tokens, at least one, within what the engine can take: the caller has checked it."""


@dataclass(frozen=True)
class Encoded:
    """All of a request's vectors."""

    vectors: Vectors
    """float32[texts, dimensions], in the order of the texts."""


EncodingEvent = Encoded | Failed | Dropped
EncodingSink = Callable[[EncodingEvent], None]
"""Called once; must return at once, and must not raise."""


class EncodingTicket:
    """A request's texts on their way through the engine."""

    def __init__(self, texts: Sequence[Text], sink: EncodingSink, withdraw: "Callable[[EncodingTicket], None]") -> None:
        self.texts = texts
        self.sink = sink
        self.submitted = perf_counter()
        self.cancelled = False
        self._withdraw = withdraw

    def cancel(self) -> None:
        """Nobody waits for this request any more: texts that do not run yet never will. The sink may still be
        called."""
        self.cancelled = True
        self._withdraw(self)
