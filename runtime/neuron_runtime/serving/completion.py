"""One request on its way through the scheduler, seen from the event loop: pieces of its answers, as they come."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial

from .admission import QueueFull
from .api_error import internal, overloaded, shutting_down
from .choice import Choice, Piece
from .detokenizer import Decode
from .generation import Dropped, Event, Failed, Generation, Ticket
from .response_body import Usage
from .scheduler import Scheduler
from .session_thread import SchedulerClosed


class Completion:
    """The answers to one request. Use `pieces` to its end, or `close`: both let go of the engine."""

    def __init__(
        self,
        scheduler: Scheduler,
        generations: Sequence[Generation],
        prompt_tokens: int,
        decode: Decode,
        stops: tuple[str, ...],
    ) -> None:
        """Queue one generation for each answer. Raises ApiError (429, 503) when they cannot all be taken."""
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._choices = [Choice(index, decode, stops) for index in range(len(generations))]
        self._prompt_tokens = prompt_tokens
        self._tickets: list[Ticket] = []
        try:
            for index, generation in enumerate(generations):
                self._tickets.append(scheduler.submit(generation, partial(self._sink, index)))
        except QueueFull as error:
            self.close()
            raise overloaded(error.retry_after) from error
        except SchedulerClosed as error:
            self.close()
            raise shutting_down() from error

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(self._prompt_tokens, sum(choice.tokens for choice in self._choices))

    @property
    def size(self) -> int:
        """Number of answers."""
        return len(self._choices)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Pieces of the answers' texts. Raises ApiError: 500 if the engine fails, 503 if the server ends."""
        while not all(choice.ended for choice in self._choices):
            index, event = await self._events.get()
            choice = self._choices[index]
            if choice.ended:
                continue
            if isinstance(event, Failed):
                raise internal(event.message)
            if isinstance(event, Dropped):
                raise shutting_down()
            piece = choice.take(event)
            if choice.ended:
                # At a stop string the engine would go on.
                self._tickets[index].cancel()
            if piece is not None:
                yield piece

    async def whole(self) -> list[Piece]:
        """Each answer in one piece. Raises ApiError."""
        pieces: list[list[Piece]] = [[] for _ in self._choices]
        async for piece in self.pieces():
            pieces[piece.index].append(piece)
        return [_joined(parts) for parts in pieces]

    def close(self) -> None:
        """Stop generating, where it still goes on."""
        for ticket in self._tickets:
            ticket.cancel()

    def _sink(self, index: int, event: Event) -> None:
        # The loop is closed when the process is about to end; then nobody waits for the event.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, (index, event))


def _joined(parts: Sequence[Piece]) -> Piece:
    last = parts[-1]
    spoken = tuple(token for part in parts for token in part.spoken)
    return Piece(last.index, "".join(part.text for part in parts), spoken, last.reason)
