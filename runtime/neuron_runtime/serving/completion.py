"""One request on its way through the scheduler, seen from the event loop: pieces of text, then why they ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from .admission import QueueFull
from .api_error import ApiError, internal, overloaded, unavailable
from .chat_response import Usage
from .detokenizer import Decode, Detokenizer, StopMatcher
from .generation import Dropped, Event, Failed, FinishReason, Generation
from .scheduler import Scheduler, SchedulerClosed

_RESTART_SECONDS = 10


class Completion:
    """Text of one answer. Use `pieces` to its end, or `close`: both let go of the engine."""

    def __init__(self, scheduler: Scheduler, generation: Generation, decode: Decode, stops: tuple[str, ...]) -> None:
        """Queue the request. Raises ApiError (429, 503) when it cannot be taken."""
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._detokenizer = Detokenizer(decode)
        self._stops = StopMatcher(stops)
        self._prompt_tokens = len(generation.prompt)
        self._completion_tokens = 0
        self.reason: FinishReason = "stop"
        """Why the text ended; known after the last piece."""
        try:
            self._ticket = scheduler.submit(generation, self._sink)
        except QueueFull as error:
            raise overloaded(error.retry_after) from error
        except SchedulerClosed as error:
            raise _shutting_down() from error

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(self._prompt_tokens, self._completion_tokens)

    async def pieces(self) -> AsyncIterator[str]:
        """Non-empty pieces of the answer's text. Raises ApiError: 500 if the engine fails, 503 if the server ends."""
        while True:
            event = await self._events.get()
            if isinstance(event, Failed):
                raise internal(event.message)
            if isinstance(event, Dropped):
                raise _shutting_down()
            for token in event.tokens:
                self._completion_tokens += 1
                piece = self._stops.add(self._detokenizer.add(token))
                if piece:
                    yield piece
                if self._stops.matched:
                    self.close()
                    return
            if event.reason is not None:
                rest = self._stops.add(self._detokenizer.finish()) + self._stops.finish()
                # A stop string may have been completed by the very last piece.
                self.reason = "stop" if self._stops.matched else event.reason
                if rest:
                    yield rest
                return

    def close(self) -> None:
        """Stop generating, if it still goes on."""
        self._ticket.cancel()

    def _sink(self, event: Event) -> None:
        # The loop is closed when the process is about to end; then nobody waits for the event.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


def _shutting_down() -> ApiError:
    return unavailable("it shuts down", _RESTART_SECONDS)
