"""The scheduler on a deterministic engine: order, limits, chunks, cancellation, failure, end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from neuron_runtime.serving.admission import QueueFull
from neuron_runtime.serving.generation import Dropped, Event, Failed, Generation, Progress, Ticket
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.sampling import SamplingParameters
from neuron_runtime.serving.scheduler import Scheduler
from neuron_runtime.serving.session_thread import SchedulerClosed
from support.scripted_engine import END, ScriptedSession

_WAIT = 10.0


class _Client:
    """Collects what a request hears."""

    def __init__(self, scheduler: Scheduler, session: ScriptedSession, prompt: str, max_tokens: int = 40) -> None:
        self._session = session
        self._events: queue.Queue[Event] = queue.Queue()
        self.tokens: list[int] = []
        self.ticket: Ticket = scheduler.submit(
            Generation(
                prompt=tuple(session.tokenizer.encode(prompt).ids),
                max_tokens=max_tokens,
                sampling=SamplingParameters(temperature=0.0),
                end_tokens=frozenset(session.tokenizer.encode(END).ids),
            ),
            self._events.put,
        )

    def next(self) -> Event:
        event = self._events.get(timeout=_WAIT)
        if isinstance(event, Progress):
            self.tokens.extend(event.tokens)
        return event

    def end(self) -> str | Failed | Dropped:
        """Why it ended."""
        while isinstance(event := self.next(), Progress):
            if event.reason is not None:
                return event.reason
        return event

    @property
    def text(self) -> str:
        return self._session.tokenizer.decode(self.tokens)

    @property
    def heard_nothing(self) -> bool:
        return self._events.empty()


@pytest.fixture
def session() -> ScriptedSession:
    return ScriptedSession(f"answer{END}")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def scheduler(session: ScriptedSession, metrics: Metrics) -> Iterator[Scheduler]:
    scheduler = Scheduler(session, metrics, queue_limit=2)
    scheduler.start()
    yield scheduler
    if session.steps is not None:
        session.steps.release(1000)
    scheduler.close(_WAIT)
    assert session.closed
    assert session.broken_rules == []


def _value(metrics: Metrics, name: str) -> float:
    value = metrics.registry.get_sample_value(f"neuron_serving_{name}")
    assert value is not None
    return value


def test_ends_at_the_end_token_which_is_no_part_of_the_answer(scheduler: Scheduler, session: ScriptedSession) -> None:
    client = _Client(scheduler, session, "hi")
    assert client.end() == "stop"
    assert client.text == "answer"


def test_ends_at_the_limit_without_a_step_too_many(scheduler: Scheduler, session: ScriptedSession) -> None:
    client = _Client(scheduler, session, "hi", max_tokens=3)
    assert client.end() == "length"
    assert client.text == "ans"
    # The first token comes from the prefill's logits.
    assert session.decodes == 2


def test_fills_the_context_to_its_last_place(scheduler: Scheduler, session: ScriptedSession) -> None:
    session.script = session.tokenizer.encode("z").ids
    client = _Client(scheduler, session, "x" * 60, max_tokens=4)
    assert client.end() == "length"
    assert client.text == "zzzz"


def test_long_prompts_run_in_chunks(scheduler: Scheduler, session: ScriptedSession) -> None:
    prompt = "a prompt of 21 tokens"
    client = _Client(scheduler, session, prompt)
    assert client.end() == "stop"
    assert session.prefills == [(0, 8), (8, 8), (16, 5)]
    assert session.tokenizer.decode(session.prompt) == prompt


def test_requests_run_in_the_order_of_arrival(scheduler: Scheduler, session: ScriptedSession) -> None:
    session.steps = threading.Semaphore(0)
    first, second = _Client(scheduler, session, "one"), None
    first.next()
    second = _Client(scheduler, session, "two")
    assert second.heard_nothing
    session.steps.release(100)
    assert first.end() == second.end() == "stop"
    assert (first.text, second.text) == ("answer", "answer")


def test_a_full_queue_refuses_and_says_when_to_come_back(
    scheduler: Scheduler, session: ScriptedSession, metrics: Metrics
) -> None:
    session.steps = threading.Semaphore(0)
    running = _Client(scheduler, session, "running")
    running.next()
    waiting = [_Client(scheduler, session, "waiting") for _ in range(2)]
    assert _value(metrics, "queue_depth") == 2
    with pytest.raises(QueueFull) as caught:
        _Client(scheduler, session, "one too many")
    assert 1 <= caught.value.retry_after <= 60
    waiting[0].ticket.cancel()
    assert _value(metrics, "queue_depth") == 1
    waiting.append(_Client(scheduler, session, "now there is room"))
    session.steps.release(100)
    assert [client.end() for client in (running, *waiting[1:])] == ["stop"] * 3
    assert waiting[0].heard_nothing


def test_cancelling_frees_the_engine_before_the_next_step(scheduler: Scheduler, session: ScriptedSession) -> None:
    session.steps = threading.Semaphore(0)
    session.script = session.tokenizer.encode("endless ").ids
    client = _Client(scheduler, session, "hi")
    client.next()
    client.ticket.cancel()
    session.steps.release(1)
    assert scheduler.wait_until_idle(_WAIT)
    assert session.decodes == 1


def test_a_failing_engine_fails_its_request_and_after_several_the_server(
    scheduler: Scheduler, session: ScriptedSession, metrics: Metrics
) -> None:
    session.fail = True
    for healthy in (True, True, False):
        assert _Client(scheduler, session, "hi").end() == Failed("the engine failed: RuntimeError")
        assert scheduler.healthy is healthy
    assert _value(metrics, "engine_failures_total") == 3
    session.fail = False
    assert _Client(scheduler, session, "hi").end() == "stop"
    assert scheduler.healthy


def test_the_end_finishes_what_is_in_and_takes_nothing_new(scheduler: Scheduler, session: ScriptedSession) -> None:
    session.steps = threading.Semaphore(0)
    running = _Client(scheduler, session, "running")
    waiting = _Client(scheduler, session, "waiting")
    running.next()
    scheduler.stop_accepting()
    with pytest.raises(SchedulerClosed):
        _Client(scheduler, session, "late")
    assert not scheduler.wait_until_idle(0.01)
    session.steps.release(100)
    assert scheduler.wait_until_idle(_WAIT)
    assert (running.end(), waiting.end()) == ("stop", "stop")


def test_what_is_measured(scheduler: Scheduler, session: ScriptedSession, metrics: Metrics) -> None:
    _Client(scheduler, session, "hello").end()
    assert scheduler.wait_until_idle(_WAIT)
    assert _value(metrics, "prompt_tokens_total") == 5
    assert _value(metrics, "generated_tokens_total") == len("answer") + 1
    assert _value(metrics, "time_to_first_token_seconds_count") == 1
    assert _value(metrics, "inter_token_seconds_count") == len("answer")
    assert _value(metrics, "running_requests") == 0
