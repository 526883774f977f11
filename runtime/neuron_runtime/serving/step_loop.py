"""Runs rows on the engine, one step at a time, and tells their requests what came of it. The engine's thread has it."""

import logging
from collections.abc import Callable, Sequence
from time import perf_counter

from neuron_runtime.engines.base import GenerationSession, Step

from .batch import DecodePlan, Planned, Row
from .generation import Event, Failed, Progress
from .metrics import Metrics
from .sampling import ConstraintBroken
from .session_thread import FAILURES_UNTIL_UNHEALTHY

_log = logging.getLogger(__name__)

_PREFILL, _DECODE = "prefill", "decode"

OnEnd = Callable[[Row, float | None], None]
"""Takes back a row's slot; for a row that ran to its end also how many seconds it ran."""


class StepLoop:
    """The steps of one session."""

    def __init__(self, session: GenerationSession, metrics: Metrics, on_end: OnEnd) -> None:
        self._session = session
        self._metrics = metrics
        self._on_end = on_end
        # Apart: one kind of step can go on failing while the other works.
        self._failures = {_PREFILL: 0, _DECODE: 0}

    @property
    def healthy(self) -> bool:
        """False once steps of one kind have failed several times in a row."""
        return max(self._failures.values()) < FAILURES_UNTIL_UNHEALTHY

    def prefill(self, planned: Sequence[Planned]) -> None:
        """Run a chunk of each row's prompt; those whose last chunk it is get their first token."""
        rows = [row for row, _ in planned]
        step = self._run(_PREFILL, rows, lambda: self._session.prefill([chunk for _, chunk in planned]))
        if step is not None:
            self._note(planned)
            self._advance(_PREFILL, rows, step)

    def decode(self, plan: DecodePlan) -> None:
        """Advance rows by one token, and the prompts that go with them."""
        rows = [*plan.rows, *(row for row, _ in plan.prompts)]
        step = self._run(_DECODE, rows, lambda: self._decoded(plan))
        if step is not None:
            self._note(plan.prompts)
            self._advance(_DECODE, rows, step)

    def end(self, row: Row, ran: float | None = None) -> None:
        """Let go of a row."""
        self._session.release(row.slot)
        self._on_end(row, ran)

    def _decoded(self, plan: DecodePlan) -> Step:
        return self._session.decode([row.newest() for row in plan.rows], [chunk for _, chunk in plan.prompts])

    def _note(self, planned: Sequence[Planned]) -> None:
        for row, chunk in planned:
            row.prefilled(chunk)
            self._metrics.prompt_tokens.inc(len(chunk.tokens))

    def _run(self, kind: str, rows: Sequence[Row], call: Callable[[], Step]) -> Step | None:
        self._metrics.rows_per_step.labels(kind).observe(len(rows))
        started = perf_counter()
        try:
            return call()
        except Exception as error:  # whatever the engine raises must not end its thread
            _log.exception("a %s step of %d rows failed", kind, len(rows))
            self._failures[kind] += 1
            self._tell([(row, Failed.of(error)) for row in rows])
            return None
        finally:
            self._metrics.graph_seconds.inc(perf_counter() - started)

    def _advance(self, kind: str, rows: Sequence[Row], step: Step) -> None:
        outcomes, broken = list[tuple[Row, Event]](), 0
        for index, row in enumerate(rows):
            if row.prefilling or row.ticket.cancelled:
                continue
            try:
                outcomes.append((row, row.advance(step, index)))
            except ConstraintBroken as error:  # of the form that this request asked for: it says nothing of the engine
                _log.warning("an answer cannot keep its form: %s", error)
                outcomes.append((row, Failed.of(error)))
            except Exception as error:  # logits that are no numbers, most likely: of this row, not of the others
                _log.exception("no token follows from a %s step", kind)
                outcomes.append((row, Failed.of(error)))
                broken += 1
        self._failures[kind] = self._failures[kind] + 1 if 0 < broken == len(outcomes) else 0
        self._tell(outcomes)

    def _tell(self, outcomes: Sequence[tuple[Row, Event]]) -> None:
        """Slots first: whoever hears that a request has ended finds its slot free."""
        now = perf_counter()
        for row, event in outcomes:
            if isinstance(event, Progress):
                self._observe(row, event, now)
            if isinstance(event, Failed):
                self._metrics.engine_failures.inc()
                self.end(row)
            elif isinstance(event, Progress) and event.reason is not None:
                self.end(row, now - row.started)
        for row, event in outcomes:
            row.ticket.sink(event)

    def _observe(self, row: Row, progress: Progress, now: float) -> None:
        submitted = row.ticket.submitted
        if row.heard is None:
            self._metrics.time_to_first_token.observe(now - submitted)
        else:
            self._metrics.inter_token.observe(now - row.heard)
        row.heard = now
        self._metrics.generated_tokens.inc()
        if progress.reason is not None:
            self._metrics.request_duration.observe(now - submitted)
