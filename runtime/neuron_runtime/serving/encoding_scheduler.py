"""Batches for an encoder: texts of all requests that are there share the engine's steps."""

import logging
from collections.abc import Sequence
from time import perf_counter

import numpy as np

from neuron_runtime.engines.base import EncoderCapabilities, EncoderSession, Vectors

from .encoding import Encoded, EncodingEvent, EncodingSink, EncodingTicket, Text
from .encoding_queue import EncodingQueue, WaitingText
from .generation import Dropped, Failed
from .metrics import Metrics
from .session_thread import FAILURES_UNTIL_UNHEALTHY, SessionThread

_log = logging.getLogger(__name__)
_ENCODE = "encode"


class EncodingScheduler(SessionThread):
    """Runs requests on an encoder's session."""

    def __init__(self, session: EncoderSession, metrics: Metrics, *, queue_limit: int) -> None:
        """`queue_limit`: texts that may wait."""
        super().__init__(session)
        self._session = session
        self._metrics = metrics
        self._queue = EncodingQueue(session.capabilities, queue_limit)
        self._requests: dict[EncodingTicket, _Request] = {}
        self._failures = 0
        metrics.slots.set(session.capabilities.batches[-1])

    @property
    def healthy(self) -> bool:
        """False once several of the engine's steps have failed in a row."""
        return self._failures < FAILURES_UNTIL_UNHEALTHY and super().healthy

    @property
    def capabilities(self) -> EncoderCapabilities:
        """What the session can do."""
        return self._session.capabilities

    def submit(self, texts: Sequence[Text], sink: EncodingSink) -> EncodingTicket:
        """Queue a request of at least one text. Raises QueueFull or SchedulerClosed."""
        with self._admitting():
            ticket = EncodingTicket(texts, sink, self._withdraw)
            self._queue.add(ticket)
            self._requests[ticket] = _Request(len(texts), self.capabilities.dimensions)
            self._announce()
            return ticket

    def turn(self) -> None:
        """One step. On the engine's thread."""
        with self._changed:
            step = self._queue.take_step()
            now = perf_counter()
            for ticket in {text.ticket for text in step}:
                request = self._requests[ticket]
                if not request.started:
                    request.started = True
                    self._metrics.queue_wait.observe(now - ticket.submitted)
            self._metrics.running.set(len({text.ticket for text in step}))
            self._announce()
        if step:
            self._tell(step, self._run(step))

    def _run(self, step: Sequence[WaitingText]) -> Vectors | Failed:
        self._metrics.rows_per_step.labels(_ENCODE).observe(len(step))
        started = perf_counter()
        try:
            vectors = self._session.encode([text.tokens for text in step])
        except Exception as error:  # whatever the engine raises must not end its thread
            _log.exception("a step of %d texts failed", len(step))
            self._failures += 1
            return Failed.of(error)
        finally:
            seconds = perf_counter() - started
            self._metrics.graph_seconds.inc(seconds)
        self._failures = 0 if np.isfinite(vectors).all(axis=1).any() else self._failures + 1
        self._metrics.prompt_tokens.inc(sum(len(text.tokens) for text in step))
        with self._changed:
            self._queue.learn(seconds, len(step))
        return vectors

    def _tell(self, step: Sequence[WaitingText], outcome: Vectors | Failed) -> None:
        """Keep a step's vectors; requests that have all of theirs, or one of whose texts failed, hear of it."""
        events: list[tuple[EncodingTicket, EncodingEvent]] = []
        with self._changed:
            for row, text in enumerate(step):
                request = self._requests.get(text.ticket)
                if request is None:  # it was cancelled, or has failed by another of its texts
                    continue
                event: EncodingEvent | None
                event = outcome if isinstance(outcome, Failed) else request.keep(text.number, outcome[row])
                if event is not None:
                    del self._requests[text.ticket]
                    self._queue.remove(text.ticket)
                    self._observe(text.ticket, event)
                    events.append((text.ticket, event))
            self._metrics.running.set(0)
            self._announce()
        for ticket, event in events:
            ticket.sink(event)

    def _observe(self, ticket: EncodingTicket, event: EncodingEvent) -> None:
        if isinstance(event, Failed):
            self._metrics.engine_failures.inc()
        else:
            self._metrics.request_duration.observe(perf_counter() - ticket.submitted)

    def _is_idle(self) -> bool:
        return not self._requests

    def _withdraw(self, ticket: EncodingTicket) -> None:
        with self._changed:
            self._queue.remove(ticket)
            if self._requests.pop(ticket, None) is not None:
                self._announce()

    def _drop(self, event: Dropped | Failed) -> None:
        with self._changed:
            dropped = list(self._requests)
            self._requests.clear()
            self._queue.clear()
            self._announce()
        for ticket in dropped:
            ticket.sink(event)

    def _announce(self) -> None:
        """Something changed. With the lock held."""
        self._metrics.queue_depth.set(len(self._queue))
        self._changed.notify_all()


class _Request:
    """What has come of a request."""

    def __init__(self, texts: int, dimensions: int) -> None:
        self._vectors: Vectors = np.empty((texts, dimensions), np.float32)
        self.started = False
        self._missing = texts

    def keep(self, number: int, vector: Vectors) -> Encoded | Failed | None:
        """Copy a vector, for the engine's own is valid until its next step alone. What there is to tell now.

        A vector that is no numbers is this request's failure, and not that of others in the step.
        """
        if not np.isfinite(vector).all():
            return Failed("the engine failed: a vector holds what is no number")
        self._vectors[number] = vector
        self._missing -= 1
        return Encoded(self._vectors) if self._missing == 0 else None
