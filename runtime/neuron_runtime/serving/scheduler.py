"""Continuous batching: requests share the engine's steps, come in as soon as a slot is free, and leave when they end.

One thread owns the engine's session. `batch` decides what a step takes, `step_loop` runs it, `admission` keeps those
that wait; here are the thread, and the lock between it and the requests that come and go.
"""

import logging
import threading
from time import perf_counter

from neuron_runtime.engines.base import Capabilities, GenerationSession

from .admission import AdmissionQueue
from .batch import Batch, Row
from .generation import Dropped, Failed, Generation, Sink, Ticket
from .metrics import Metrics
from .step_loop import StepLoop

_log = logging.getLogger(__name__)


class SchedulerClosed(Exception):
    """The server shuts down."""


class Scheduler:
    """Runs requests on a session."""

    def __init__(self, session: GenerationSession, metrics: Metrics, *, queue_limit: int) -> None:
        self._session = session
        self._metrics = metrics
        self._changed = threading.Condition()
        self._batch = Batch(session.capabilities)
        self._queue = AdmissionQueue(queue_limit, self._batch.size)
        self._steps = StepLoop(session, metrics, self._on_end)
        self._accepting = True
        self._closed = False
        self._broken = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        metrics.slots.set(self._batch.size)

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """False once several of the engine's steps have failed in a row."""
        return self._steps.healthy and not self._broken

    @property
    def capabilities(self) -> Capabilities:
        """What the session can do."""
        return self._session.capabilities

    @property
    def prompt_limit(self) -> int:
        """Most tokens of a prompt."""
        limits = self.capabilities
        return limits.max_model_length if limits.chunked_prefill else limits.prefill_tokens

    def submit(self, generation: Generation, sink: Sink) -> Ticket:
        """Queue a request. Raises QueueFull or SchedulerClosed."""
        with self._changed:
            if not self._accepting:
                raise SchedulerClosed
            ticket = Ticket(generation, sink, self._withdraw)
            self._queue.add(ticket, self._batch.free)
            self._announce()
            return ticket

    def stop_accepting(self) -> None:
        """Take no more requests; those that are in go on."""
        with self._changed:
            self._accepting = False

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no request runs or waits; False when some still do after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._batch, timeout)

    def close(self, timeout: float) -> None:
        """Drop all requests, telling each, and close the session after the step that runs.

        The step may take longer than `timeout` seconds; it is then left to the process's end.
        """
        self._drop(Dropped())
        self._thread.join(timeout)

    def turn(self) -> None:
        """At most one prefill step, then a step for all rows that have come past their prompt. On the engine's thread.

        Before each step slots of cancelled requests are freed, and free ones given to those that wait.
        """
        self._settle()
        planned = self._batch.next_prefill()
        if planned:
            self._steps.prefill(planned)
            self._settle()
        for rows in self._batch.next_decodes():
            self._settle()
            live = [row for row in rows if not row.ended]
            if live:
                self._steps.decode(live)

    def _work(self) -> None:
        try:
            while self._wait():
                self.turn()
        except Exception:  # the thread is about to end: whoever waits for it has to hear
            _log.exception("the engine's thread failed")
            self._broken = True
            self._drop(Failed("the engine's thread failed"))
        finally:
            self._session.close()

    def _wait(self) -> bool:
        """Wait for something to do; False when there will be nothing more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._queue or self._batch)
            return not self._closed

    def _settle(self) -> None:
        for row in self._batch:
            if row.ticket.cancelled:
                self._steps.end(row)
        with self._changed:
            while self._queue and self._batch.free:
                row = self._batch.start(self._queue.pop(), perf_counter())
                self._metrics.queue_wait.observe(row.started - row.ticket.submitted)
            self._announce()

    def _on_end(self, row: Row, ran: float | None) -> None:
        with self._changed:
            self._batch.end(row)
            if ran is not None:
                self._queue.learn(ran)
            self._announce()

    def _withdraw(self, ticket: Ticket) -> None:
        with self._changed:
            if self._queue.remove(ticket):
                self._announce()

    def _drop(self, event: Dropped | Failed) -> None:
        with self._changed:
            self._accepting, self._closed = False, True
            tickets = [*self._queue.clear(), *(row.ticket for row in self._batch)]
            dropped = [ticket for ticket in tickets if not ticket.cancelled]
            for ticket in dropped:
                ticket.cancelled = True
            self._announce()
        for ticket in dropped:
            ticket.sink(event)

    def _announce(self) -> None:
        """Something changed. With the lock held."""
        self._metrics.queue_depth.set(len(self._queue))
        self._metrics.running.set(len(self._batch))
        self._changed.notify_all()
