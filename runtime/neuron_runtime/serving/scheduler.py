"""Continuous batching: requests share the engine's steps, come in as soon as a slot is free, and leave when they end.

One thread owns the engine's session (`session_thread`). `batch` decides what a step takes, `step_loop` runs it,
`admission` keeps those that wait; here is what a turn of that thread does, and how requests come and go.
"""

from time import perf_counter

from neuron_runtime.engines.base import Capabilities, GenerationSession

from .admission import AdmissionQueue
from .batch import Batch, Row
from .generation import Dropped, Failed, Generation, Sink, Ticket
from .metrics import Metrics
from .session_thread import SessionThread
from .step_loop import StepLoop


class Scheduler(SessionThread):
    """Runs requests on a session."""

    def __init__(self, session: GenerationSession, metrics: Metrics, *, queue_limit: int) -> None:
        super().__init__(session)
        self._session = session
        self._metrics = metrics
        self._batch = Batch(session.capabilities)
        self._queue = AdmissionQueue(queue_limit, self._batch.size)
        self._steps = StepLoop(session, metrics, self._on_end)
        metrics.slots.set(self._batch.size)

    @property
    def healthy(self) -> bool:
        """False once several of the engine's steps have failed in a row."""
        return self._steps.healthy and super().healthy

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
        with self._admitting():
            ticket = Ticket(generation, sink, self._withdraw)
            self._queue.add(ticket, self._batch.free)
            self._announce()
            return ticket

    def turn(self) -> None:
        """At most one prefill step, then a step for all rows that have come past their prompt, with tokens of prompts
        where it has room for them. On the engine's thread.

        Before each step slots of cancelled requests are freed, and free ones given to those that wait.
        """
        self._settle()
        planned = self._batch.next_prefill()
        if planned:
            self._steps.prefill(planned)
            self._settle()
        for plan in self._batch.next_decodes():
            self._settle()
            live = plan.live
            if live.rows:
                self._steps.decode(live)

    def _is_idle(self) -> bool:
        return not self._queue and not self._batch

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
