"""Decides whose tokens the engine computes next. Today: one request at a time, in the order of arrival.

One thread owns the engine's session. Requests come in through a bounded queue and hear of their tokens through a sink;
nothing outside of this module knows how many of them share a step.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import perf_counter

from neuron_runtime.engines.base import Capabilities, DecodeRow, GenerationSession, PrefillRow, Step

from .chat_response import FinishReason
from .metrics import Metrics
from .sampling import Sampler, SamplingParameters, TokenLogits

_log = logging.getLogger(__name__)

_SLOT = 0
# One failure may be the request's; several in a row are the engine's, and only a new process mends it.
_FAILURES_UNTIL_UNHEALTHY = 3
_LONGEST_RETRY_AFTER = 60


@dataclass(frozen=True)
class Generation:
    """What the engine is asked for. Prompt and answer together fit into the context: the caller has checked it."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParameters
    end_tokens: frozenset[int]
    """Tokens that end the answer; they are not part of it."""


@dataclass(frozen=True)
class Tokens:
    """Tokens that came out of one step."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Finished:
    """No token follows."""

    reason: FinishReason


@dataclass(frozen=True)
class Failed:
    """The engine failed; no token follows."""

    message: str


Event = Tokens | Finished | Failed
Sink = Callable[[Event], None]
"""Called on the engine's thread; must return at once."""


class QueueFull(Exception):
    """As many requests wait as may wait."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; retry in {retry_after} s")
        self.retry_after = retry_after
        """Seconds until a place is likely to be free."""


class SchedulerClosed(Exception):
    """The server shuts down."""


class Ticket:
    """A request's place in the queue, or its hold on the engine."""

    def __init__(self, generation: Generation, sink: Sink, withdraw: "Callable[[Ticket], None]") -> None:
        self.generation = generation
        self.sink = sink
        self.submitted = perf_counter()
        self.cancelled = False
        self._withdraw = withdraw

    def cancel(self) -> None:
        """Nobody waits for this request any more: it stops before its next step. The sink may still be called."""
        self.cancelled = True
        self._withdraw(self)


class Scheduler:
    """Runs requests on a session, on a thread of its own."""

    def __init__(self, session: GenerationSession, metrics: Metrics, *, queue_limit: int) -> None:
        self._session = session
        self._metrics = metrics
        self._queue_limit = queue_limit
        self._queue: deque[Ticket] = deque()
        self._running: Ticket | None = None
        self._changed = threading.Condition()
        self._accepting = True
        self._closed = False
        self._failures = 0
        self._usual_duration = 1.0
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """False once the engine has failed several requests in a row."""
        return self._failures < _FAILURES_UNTIL_UNHEALTHY

    @property
    def capabilities(self) -> Capabilities:
        """What the session can do."""
        return self._session.capabilities

    def submit(self, generation: Generation, sink: Sink) -> Ticket:
        """Queue a request. Raises QueueFull or SchedulerClosed."""
        with self._changed:
            if not self._accepting:
                raise SchedulerClosed
            # A request that can start at once does not wait, so it needs no place among those that do.
            if len(self._queue) >= self._queue_limit + (self._running is None):
                raise QueueFull(self._retry_after())
            ticket = Ticket(generation, sink, self._withdraw)
            self._queue.append(ticket)
            self._metrics.queue_depth.set(len(self._queue))
            self._changed.notify_all()
            return ticket

    def stop_accepting(self) -> None:
        """Take no more requests; those that are in go on."""
        with self._changed:
            self._accepting = False

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no request runs or waits; False when some still do after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and self._running is None, timeout)

    def close(self, timeout: float) -> None:
        """Drop the requests that wait, stop the running one after its step, close the session."""
        with self._changed:
            self._accepting, self._closed = False, True
            self._queue.clear()
            if self._running is not None:
                self._running.cancelled = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _retry_after(self) -> int:
        wait = (len(self._queue) + 1) * self._usual_duration / 2
        return max(1, min(_LONGEST_RETRY_AFTER, ceil(wait)))

    def _withdraw(self, ticket: Ticket) -> None:
        with self._changed:
            if ticket in self._queue:
                self._queue.remove(ticket)
                self._metrics.queue_depth.set(len(self._queue))
                self._changed.notify_all()

    def _work(self) -> None:
        while (ticket := self._next()) is not None:
            self._serve(ticket)
            with self._changed:
                self._running = None
                self._metrics.running.set(0)
                self._changed.notify_all()
        self._session.close()

    def _next(self) -> Ticket | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            self._running = self._queue.popleft()
            self._metrics.queue_depth.set(len(self._queue))
            self._metrics.running.set(1)
            return self._running

    def _serve(self, ticket: Ticket) -> None:
        started = perf_counter()
        self._metrics.queue_wait.observe(started - ticket.submitted)
        try:
            reason = self._generate(ticket)
            event: Event | None = Finished(reason) if reason is not None else None
            self._failures = 0
        except Exception as error:  # whatever the engine raises must not end its thread
            _log.exception("the engine failed")
            self._failures += 1
            self._metrics.engine_failures.inc()
            event = Failed(f"the engine failed: {type(error).__name__}")
        ended = perf_counter()
        self._usual_duration += 0.2 * (ended - started - self._usual_duration)
        self._metrics.request_duration.observe(ended - ticket.submitted)
        if event is not None:
            ticket.sink(event)

    def _generate(self, ticket: Ticket) -> FinishReason | None:
        """Run one request. None: it was cancelled."""
        generation = ticket.generation
        sampler = Sampler(generation.sampling)
        logits = self._prefill(ticket)
        previous = None
        for position in range(len(generation.prompt), len(generation.prompt) + generation.max_tokens):
            if logits is None or ticket.cancelled:
                return None
            token = sampler.sample(logits)
            previous = self._observe_token(ticket, previous)
            if token in generation.end_tokens:
                return "stop"
            ticket.sink(Tokens((token,)))
            if position + 1 < len(generation.prompt) + generation.max_tokens:
                logits = _logits(self._session.decode([DecodeRow(_SLOT, token, position)]))
        return "length"

    def _prefill(self, ticket: Ticket) -> TokenLogits | None:
        """Logits after the prompt, which runs in chunks of what the largest graph takes."""
        prompt = ticket.generation.prompt
        chunk = self._session.capabilities.prefill_tokens
        logits = None
        for start in range(0, len(prompt), chunk):
            if ticket.cancelled:
                return None
            logits = _logits(self._session.prefill([PrefillRow(_SLOT, prompt[start : start + chunk], start)]))
        self._metrics.prompt_tokens.inc(len(prompt))
        return logits

    def _observe_token(self, ticket: Ticket, previous: float | None) -> float:
        now = perf_counter()
        if previous is None:
            self._metrics.time_to_first_token.observe(now - ticket.submitted)
        else:
            self._metrics.inter_token.observe(now - previous)
        self._metrics.generated_tokens.inc()
        return now


def _logits(step: Step) -> TokenLogits:
    """Of the only row."""
    if step.logits is None:
        raise RuntimeError("graphs that sample on the device are not scheduled yet")
    row: TokenLogits = step.logits[0]
    return row
