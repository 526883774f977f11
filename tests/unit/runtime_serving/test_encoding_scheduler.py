"""Encoding on a deterministic engine: steps that requests share, cancellation, failure, end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from neuron_runtime.serving.admission import QueueFull
from neuron_runtime.serving.encoding import Encoded, EncodingEvent, EncodingTicket
from neuron_runtime.serving.encoding_scheduler import EncodingScheduler
from neuron_runtime.serving.generation import Dropped, Failed
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.session_thread import SchedulerClosed
from support.scripted_encoder import ScriptedEncoder, vector_of

_WAIT = 10.0


class _Client:
    def __init__(self, scheduler: EncodingScheduler, *texts: Sequence[int]) -> None:
        self._texts = texts
        self._events: queue.Queue[EncodingEvent] = queue.Queue()
        self.ticket: EncodingTicket = scheduler.submit(texts, self._events.put)

    def heard(self) -> EncodingEvent:
        return self._events.get(timeout=_WAIT)

    def is_answered(self) -> bool:
        """Whether each text has its own vector."""
        event = self.heard()
        assert isinstance(event, Encoded)
        return np.array_equal(event.vectors, np.array([vector_of(text) for text in self._texts], np.float32))

    @property
    def heard_nothing(self) -> bool:
        return self._events.empty()


@pytest.fixture
def session() -> ScriptedEncoder:
    return ScriptedEncoder()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def scheduler(session: ScriptedEncoder, metrics: Metrics) -> Iterator[EncodingScheduler]:
    scheduler = EncodingScheduler(session, metrics, queue_limit=8)
    scheduler.start()
    yield scheduler
    if session.steps is not None:
        session.steps.release(1000)
    scheduler.close(_WAIT)
    assert session.closed
    assert session.broken_rules == []


def _hold(session: ScriptedEncoder, scheduler: EncodingScheduler) -> _Client:
    """A request whose step runs until the test lets it go."""
    session.steps = threading.Semaphore(0)
    client = _Client(scheduler, (9,) * 16)
    assert session.begun.acquire(timeout=_WAIT)
    return client


def test_vectors_in_the_order_of_the_texts(scheduler: EncodingScheduler) -> None:
    assert _Client(scheduler, (1, 2, 3), (7,) * 16, (4,), (5, 6), (8,) * 9, (1,)).is_answered()


def test_requests_that_wait_together_share_a_step(
    session: ScriptedEncoder, scheduler: EncodingScheduler, metrics: Metrics
) -> None:
    held = _hold(session, scheduler)
    clients = [_Client(scheduler, (number,), (number, 2)) for number in range(1, 3)]
    assert metrics.registry.get_sample_value("neuron_serving_queue_depth") == 2
    assert metrics.registry.get_sample_value("neuron_serving_running_requests") == 1
    assert session.steps is not None
    session.steps.release(2)
    assert held.is_answered()
    assert all(client.is_answered() for client in clients)
    assert session.calls[1:] == [[(1,), (2,), (1, 2), (2, 2)]]
    assert metrics.registry.get_sample_value("neuron_serving_queue_depth") == 0
    assert metrics.registry.get_sample_value("neuron_serving_running_requests") == 0
    assert metrics.registry.get_sample_value("neuron_serving_prompt_tokens_total") == 16 + 6
    assert metrics.registry.get_sample_value("neuron_serving_request_duration_seconds_count") == 3
    assert metrics.registry.get_sample_value("neuron_serving_queue_wait_seconds_count") == 3


def test_a_request_that_leaves_is_not_run(session: ScriptedEncoder, scheduler: EncodingScheduler) -> None:
    held = _hold(session, scheduler)
    gone, stays = _Client(scheduler, *[(1,)] * 6), _Client(scheduler, (2,))
    gone.ticket.cancel()
    held.ticket.cancel()
    assert session.steps is not None
    session.steps.release(2)
    assert stays.is_answered()
    assert session.calls == [[(9,) * 16], [(2,)]]
    assert gone.heard_nothing and held.heard_nothing
    assert scheduler.wait_until_idle(_WAIT)


def test_too_many_texts_are_refused_until_there_is_room(session: ScriptedEncoder, scheduler: EncodingScheduler) -> None:
    _hold(session, scheduler)
    first = _Client(scheduler, *[(1,)] * 7)
    with pytest.raises(QueueFull):
        _Client(scheduler, (1,), (2,))
    first.ticket.cancel()
    second = _Client(scheduler, (1,), (2,))
    assert session.steps is not None
    session.steps.release(10)
    assert second.is_answered()


def test_a_failed_step_fails_its_requests_and_no_others(
    session: ScriptedEncoder, scheduler: EncodingScheduler, metrics: Metrics
) -> None:
    held = _hold(session, scheduler)
    # Six texts take two steps; the first of them fails.
    fails = _Client(scheduler, *[(1,) * 16] * 6)
    session.fail = True
    assert session.steps is not None
    session.steps.release(2)
    assert isinstance(held.heard(), Failed)
    assert fails.heard() == Failed("the engine failed: RuntimeError")
    assert scheduler.wait_until_idle(_WAIT)
    assert len(session.calls) == 2
    assert metrics.registry.get_sample_value("neuron_serving_engine_failures_total") == 2
    session.fail, session.steps = False, None
    assert _Client(scheduler, (1,)).is_answered()
    assert fails.heard_nothing


def test_a_vector_without_numbers_is_the_failure_of_its_request_alone(
    session: ScriptedEncoder, scheduler: EncodingScheduler
) -> None:
    held = _hold(session, scheduler)
    session.not_a_number = 7
    fails, works = _Client(scheduler, (7,), (1,)), _Client(scheduler, (2,), (3,))
    assert session.steps is not None
    session.steps.release(2)
    assert held.is_answered()
    assert isinstance(fails.heard(), Failed)
    assert works.is_answered()
    assert scheduler.healthy


@pytest.mark.parametrize("how", ["errors", "no numbers"])
def test_several_failures_in_a_row_are_the_engines(
    session: ScriptedEncoder, scheduler: EncodingScheduler, how: str
) -> None:
    session.fail = how == "errors"
    session.not_a_number = 7
    for _ in range(3):
        assert scheduler.healthy
        assert isinstance(_Client(scheduler, (7,)).heard(), Failed)
    assert not scheduler.healthy
    session.fail = False
    assert _Client(scheduler, (1,)).is_answered()
    assert scheduler.healthy


def test_those_that_are_in_are_answered_while_draining(session: ScriptedEncoder, scheduler: EncodingScheduler) -> None:
    held = _hold(session, scheduler)
    waits = _Client(scheduler, (1,))
    scheduler.stop_accepting()
    with pytest.raises(SchedulerClosed):
        _Client(scheduler, (2,))
    assert not scheduler.wait_until_idle(0)
    assert session.steps is not None
    session.steps.release(2)
    assert held.is_answered() and waits.is_answered()
    assert scheduler.wait_until_idle(_WAIT)


def test_closing_tells_everybody(session: ScriptedEncoder, scheduler: EncodingScheduler) -> None:
    held = _hold(session, scheduler)
    waits = _Client(scheduler, (1,))
    scheduler.close(0)
    assert held.heard() == waits.heard() == Dropped()
    assert session.steps is not None
    session.steps.release(1)


def test_an_error_beside_the_engine_ends_it_and_everybody_hears(
    session: ScriptedEncoder, scheduler: EncodingScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "turn", lambda: 1 / 0)
    assert isinstance(_Client(scheduler, (1,)).heard(), Failed)
    assert not scheduler.healthy
    with pytest.raises(SchedulerClosed):
        _Client(scheduler, (1,))
