"""Which texts an encoder's next step takes. Decides, and keeps those that wait; runs nothing.

Requests take turns, so one of thousands of texts does not hold up one of a single text. A step takes texts that are
filled up to the same length: it costs what its longest text does, so shorter ones come only into rows that would be
empty.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from typing import NamedTuple

from neuron_runtime.engines.base import EncoderCapabilities

from .admission import QueueFull
from .encoding import EncodingTicket, Text
from .pace import Pace


class WaitingText(NamedTuple):
    """One of a request's texts."""

    ticket: EncodingTicket
    number: int
    """From 0, in the request's order."""

    @property
    def tokens(self) -> Text:
        """The text itself."""
        return self.ticket.texts[self.number]


class EncodingQueue:
    """Texts that wait. Not thread-safe."""

    def __init__(self, capabilities: EncoderCapabilities, limit: int) -> None:
        """`limit`: texts that may wait, but for those of a request that comes when none does."""
        self._lengths = capabilities.lengths
        self._batches = capabilities.batches
        self._limit = limit
        self._pace = Pace(at_once=1)
        # Texts of each request by the length that they are filled up to; in the order of the requests' turns.
        self._waiting: dict[EncodingTicket, dict[int, deque[WaitingText]]] = {}
        self._texts = 0

    def __len__(self) -> int:
        """Requests that have texts waiting."""
        return len(self._waiting)

    @property
    def texts(self) -> int:
        """Texts that wait."""
        return self._texts

    def add(self, ticket: EncodingTicket) -> None:
        """Have all of a request's texts wait. Raises QueueFull."""
        if self._texts and self._texts + len(ticket.texts) > self._limit:
            raise QueueFull(self._pace.retry_after(self._texts))
        by_length: dict[int, deque[WaitingText]] = {}
        for number, text in enumerate(ticket.texts):
            length = self._lengths[bisect_left(self._lengths, len(text))]
            by_length.setdefault(length, deque()).append(WaitingText(ticket, number))
        self._waiting[ticket] = by_length
        self._texts += len(ticket.texts)

    def remove(self, ticket: EncodingTicket) -> bool:
        """Take out what waits of a request; False when nothing does."""
        by_length = self._waiting.pop(ticket, None)
        if by_length is None:
            return False
        self._texts -= sum(map(len, by_length.values()))
        return True

    def clear(self) -> list[EncodingTicket]:
        """Take out all."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._texts = 0
        return waiting

    def learn(self, seconds: float, texts: int) -> None:
        """A step took so long for so many texts."""
        self._pace.learn(seconds / texts)

    def take_step(self) -> list[WaitingText]:
        """Take out the texts of the next step: longest texts of the request whose turn it is, and what goes with them.

        Empty when none wait.
        """
        if not self._waiting:
            return []
        length = max(next(iter(self._waiting.values())))
        chosen = list(islice(self._in_turns(length), self._batches[-1]))
        rows = rows_of_step(len(chosen), self._batches)
        del chosen[rows:]
        for shorter in reversed(self._lengths[: self._lengths.index(length)]):
            chosen += islice(self._in_turns(shorter), rows - len(chosen))
        for text in chosen:
            self._take(text)
        return chosen

    def _in_turns(self, length: int) -> Iterator[WaitingText]:
        """Texts of one length: one of each request, then a second one of each, and so on."""
        queues = [by_length[length] for by_length in self._waiting.values() if length in by_length]
        for turn in zip_longest(*queues):
            yield from (text for text in turn if text is not None)

    def _take(self, text: WaitingText) -> None:
        """Take out a text, the first of its length, and let its request's next turn come after all others'."""
        by_length = self._waiting.pop(text.ticket)
        for texts in by_length.values():
            if texts[0] is text:
                texts.popleft()
                break
        by_length = {length: texts for length, texts in by_length.items() if texts}
        if by_length:
            self._waiting[text.ticket] = by_length
        self._texts -= 1


def rows_of_step(waiting: int, batches: Sequence[int]) -> int:
    """The batch to run when so many texts of one length wait, at least one: one that is full, or more than half full.

    Empty rows cost what full ones do. `batches` ascend.
    """
    covering = next((batch for batch in batches if batch >= waiting), batches[-1])
    full = [batch for batch in batches if batch <= waiting]
    return covering if not full or 2 * waiting > covering else full[-1]
