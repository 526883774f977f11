"""Continuous batching, one turn at a time: whatever shares a batch, every request gets what it would get alone."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from neuron_runtime.engines.base import DecodeRow, PrefillRow, Sampling
from neuron_runtime.serving.admission import QueueFull
from neuron_runtime.serving.batch import share_room
from neuron_runtime.serving.generation import Event, Failed, FinishReason, Generation, Progress, Ticket
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.sampling import ConstraintBroken, Sampler, SamplingParameters
from neuron_runtime.serving.scheduler import Scheduler
from support.scripted_engine import ScriptedSession

_VOCABULARY = 16
_END = 15
_QUEUE = 3
_CONTEXT = 24
_GREEDY = SamplingParameters(temperature=0.0)


def _speak(prompt: Sequence[int], said: Sequence[int]) -> npt.NDArray[np.float32]:
    """Logits that depend on every token before: a wrong slot, position or token changes all that follows."""
    seed = zlib.crc32(bytes([*prompt, 255, *said]))
    return np.random.default_rng(seed).normal(scale=2.0, size=_VOCABULARY).astype(np.float32)


@lru_cache(maxsize=10_000)
def _alone(generation: Generation) -> tuple[list[int], FinishReason]:
    """What the request gets when nothing shares the engine with it, told without an engine."""
    sampler, said = Sampler(generation.sampling), list[int]()
    while len(said) < generation.max_tokens:
        logits = _speak(generation.prompt, said)
        token = sampler.choose(logits, int(logits.argmax()))
        if token in generation.end_tokens:
            return said, "stop"
        said.append(token)
    return said, "length"


@dataclass
class _Client:
    generation: Generation
    events: list[Event] = field(default_factory=list)
    ticket: Ticket | None = None
    cancelled: bool = False

    @property
    def tokens(self) -> list[int]:
        return [token for event in self.events if isinstance(event, Progress) for token in event.tokens]

    @property
    def end(self) -> FinishReason | str | None:
        if not self.events:
            return None
        last = self.events[-1]
        return last.reason if isinstance(last, Progress) else type(last).__name__

    def check(self) -> None:
        tokens, reason = _alone(self.generation)
        assert self.tokens == tokens[: len(self.tokens)]
        if self.end in ("stop", "length"):
            assert (self.tokens, self.end) == (tokens, reason)


class _Bench:
    """A scheduler that the test turns by hand."""

    def __init__(self, **capabilities: Any) -> None:
        limits = {"slots": 4, "decode_batches": (1, 4), "max_model_length": _CONTEXT, "prefill_tokens": 4}
        self.session = ScriptedSession("", vocabulary=_VOCABULARY, **(limits | capabilities))
        self.session.speak = _speak
        self.metrics = Metrics()
        self.scheduler = Scheduler(self.session, self.metrics, queue_limit=_QUEUE)

    def submit(
        self,
        prompt: Sequence[int],
        max_tokens: int = 4,
        sampling: SamplingParameters = _GREEDY,
        end_tokens: frozenset[int] = frozenset(),
    ) -> _Client:
        client = _Client(Generation(tuple(prompt), max_tokens, sampling, end_tokens))
        client.ticket = self.scheduler.submit(client.generation, client.events.append)
        return client

    def cancel(self, client: _Client) -> None:
        assert client.ticket is not None
        client.cancelled = True
        client.ticket.cancel()

    def turns(self, count: int = 1) -> None:
        for _ in range(count):
            self.scheduler.turn()

    def until_idle(self) -> None:
        for _ in range(1000):
            if self.scheduler.wait_until_idle(0):
                break
            self.scheduler.turn()
        assert self.scheduler.wait_until_idle(0)
        assert self.session.held == set()
        assert self.session.broken_rules == []

    @property
    def kinds(self) -> str:
        """Steps so far: p for a prefill, d for a decode."""
        return "".join("d" if isinstance(call[0], DecodeRow) else "p" for call in self.session.calls)

    def value(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(f"neuron_serving_{name}", labels)
        assert value is not None
        return value


class _Requests(RuleBasedStateMachine):
    """Requests that come, go and fail in any order."""

    capabilities: dict[str, Any] = {}

    def __init__(self) -> None:
        super().__init__()
        self.bench = _Bench(**self.capabilities)
        self.clients: list[_Client] = []

    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        length = data.draw(st.integers(1, self.bench.scheduler.prompt_limit - 1))
        sampling = st.builds(
            SamplingParameters,
            temperature=st.sampled_from([0.0, 1.0]),
            top_p=st.sampled_from([0.7, 1.0]),
            seed=st.integers(0, 3),
        )
        if self.bench.session.capabilities.sampling is Sampling.ON_DEVICE:
            sampling = st.just(_GREEDY)
        waiting = self.bench.value("queue_depth")
        try:
            client = self.bench.submit(
                data.draw(st.lists(st.integers(0, _VOCABULARY - 1), min_size=length, max_size=length)),
                data.draw(st.integers(1, _CONTEXT - length)),
                data.draw(sampling),
                data.draw(st.sampled_from([frozenset(), frozenset({_END})])),
            )
        except QueueFull as error:
            assert waiting >= _QUEUE
            assert 1 <= error.retry_after <= 60
        else:
            self.clients.append(client)

    @rule(turns=st.integers(1, 6))
    def run(self, turns: int) -> None:
        self.bench.turns(turns)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        heard = len(client.events)
        self.bench.cancel(client)
        self.bench.turns()
        assert len(client.events) == heard
        assert len(self.bench.session.held) <= self.bench.value("running_requests")

    @rule(slot=st.integers(0, 3))
    def fail(self, slot: int) -> None:
        self.bench.session.fail_slots = {slot}
        self.bench.turns()
        self.bench.session.fail_slots = set()

    @invariant()
    def everyone_gets_what_is_due(self) -> None:
        for client in self.clients:
            client.check()

    @invariant()
    def the_protocol_is_kept(self) -> None:
        assert self.bench.session.broken_rules == []

    def teardown(self) -> None:
        self.bench.until_idle()
        for client in self.clients:
            client.check()
            assert client.cancelled or client.end in ("stop", "length", "Failed")
        assert self.bench.value("running_requests") == self.bench.value("queue_depth") == 0


_KINDS: dict[str, dict[str, Any]] = {
    "continuous": {},
    "more slots than the largest decode batch": {"slots": 5, "decode_batches": (1, 2)},
    "several prompts in one step": {"prefill_batches": (1, 3)},
    "prompts beside answers": {"mixed_steps": True, "decode_batches": (1, 4, 9)},
    "prompts beside answers that take several steps": {"mixed_steps": True, "slots": 5, "decode_batches": (1, 4)},
    "prompts in one piece": {"chunked_prefill": False, "prefill_tokens": 12},
    "sampling on the device": {"sampling": Sampling.ON_DEVICE},
    "static": {
        "static_batch": True,
        "chunked_prefill": False,
        "prefill_tokens": 12,
        "prefill_batches": (4,),
        "decode_batches": (4,),
    },
    "static in chunks": {"static_batch": True, "slots": 8, "prefill_batches": (3,), "decode_batches": (4,)},
}


@pytest.mark.parametrize("kind", _KINDS)
def test_every_request_gets_what_it_would_get_alone_and_every_slot_comes_back(kind: str) -> None:
    machine = type("Requests", (_Requests,), {"capabilities": _KINDS[kind]})
    case = machine.TestCase
    case.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
    case().runTest()


def test_a_long_prompt_does_not_stall_answers_that_run() -> None:
    bench = _Bench()
    running = bench.submit([1], max_tokens=10)
    bench.turns(2)
    bench.submit([2] * 17, max_tokens=2)
    before = len(bench.kinds)
    bench.turns(5)
    # Between any two chunks of the prompt the running answer gets its token.
    assert bench.kinds[before:] == "pd" * 5
    assert len(running.tokens) == 3 + 5


def _taken(bench: _Bench) -> list[list[tuple[int, int]]]:
    """Of each step the slots, and how many tokens each gave."""
    return [
        [(row.slot, len(row.tokens) if isinstance(row, PrefillRow) else 1) for row in call]
        for call in bench.session.calls
    ]


def test_prompts_go_with_the_steps_of_answers_that_run() -> None:
    """As many tokens as there is room for, the oldest prompt's first."""
    bench = _Bench(mixed_steps=True, decode_batches=(1, 4, 10), prefill_tokens=12)
    running = [bench.submit([number] * 3, max_tokens=12) for number in range(2)]
    bench.turns(2)
    bench.session.calls.clear()
    late = [bench.submit([2] * 13, max_tokens=3), bench.submit([3] * 9, max_tokens=3)]
    bench.turns(5)
    assert _taken(bench) == [
        [(0, 1), (1, 1), (2, 8)],
        [(0, 1), (1, 1), (2, 5), (3, 3)],
        [(0, 1), (1, 1), (2, 1), (3, 6)],
        [(0, 1), (1, 1), (2, 1), (3, 1)],
        [(0, 1), (1, 1), (3, 1)],
    ]
    assert [len(client.tokens) for client in running] == [8, 7]
    assert [client.end for client in late] == ["length", "length"]
    # Each token of a prompt counts once.
    assert bench.value("prompt_tokens_total") == 2 * 3 + 13 + 9


@pytest.mark.parametrize(
    ("remaining", "room", "shares"),
    [
        ([], 8, []),
        ([5], 0, [0]),
        ([5], 8, [5]),
        ([4000, 5], 10, [5, 5]),
        ([4000, 3, 2], 10, [5, 3, 2]),
        ([4000, 7, 2], 10, [5, 3, 2]),
        ([60, 60], 10, [10, 0]),
        ([3, 60], 10, [3, 7]),
        ([1, 1, 1], 2, [1, 1, 0]),
    ],
)
def test_a_short_prompt_does_not_wait_for_a_long_one_nor_that_for_ever(
    remaining: list[int], room: int, shares: list[int]
) -> None:
    assert share_room(remaining, room) == shares


def test_prompts_take_steps_of_their_own_while_more_wait_than_are_answered() -> None:
    bench = _Bench(mixed_steps=True, decode_batches=(1, 4, 9), prefill_tokens=6)
    for number in range(4):
        bench.submit([number] * 6, max_tokens=9)
    bench.turns()
    # One is answered and three wait.
    assert _taken(bench) == [[(0, 6)], [(0, 1), (1, 6), (2, 2)]]
    bench.turns()
    assert _taken(bench)[2:] == [[(0, 1), (1, 1), (2, 4), (3, 3)]]
    bench.session.calls.clear()
    bench.until_idle()
    for number in range(4):
        bench.submit([number] * 14, max_tokens=9)
    bench.session.calls.clear()
    bench.turns(3)
    assert _taken(bench) == [[(0, 6)], [(0, 6)], [(0, 2)], [(0, 1), (1, 8)]]
    bench.turns()
    assert _taken(bench)[4:] == [[(1, 6)], [(0, 1), (1, 1), (2, 7)]]


def test_prompts_wait_for_a_step_of_their_own_where_answers_leave_no_room() -> None:
    bench = _Bench(mixed_steps=True, slots=3, decode_batches=(2,))
    for number in range(3):
        bench.submit([number] * 3, max_tokens=9)
    bench.turns(3)
    assert _taken(bench) == [
        [(0, 3)],
        [(0, 1), (1, 1)],
        [(1, 2)],
        [(0, 1), (1, 1)],
        [(2, 3)],
        [(0, 1), (1, 1)],
        [(2, 1)],
    ]


def test_a_prompt_that_leaves_before_the_step_is_not_run() -> None:
    bench = _Bench(mixed_steps=True, decode_batches=(2, 8))
    running = bench.submit([1], max_tokens=9)
    bench.turns()
    leaving = bench.submit([2] * 9, max_tokens=2)

    def leave(_event: Event) -> None:
        bench.cancel(leaving)

    assert running.ticket is not None
    running.ticket.sink = leave
    bench.turns(2)
    assert _taken(bench)[2:] == [[(0, 1), (1, 7)], [(0, 1)]]
    bench.until_idle()


def test_a_failing_step_fails_the_prompts_that_it_took() -> None:
    bench = _Bench(mixed_steps=True, decode_batches=(1, 9))
    clients = [bench.submit([1], max_tokens=9)]
    bench.turns()
    clients += [bench.submit([2, 2], max_tokens=2), bench.submit([3] * 20, max_tokens=2)]
    bench.session.fail_slots = {0}
    bench.turns()
    assert [client.end for client in clients] == ["Failed"] * 3
    bench.until_idle()


def test_all_live_rows_share_a_step() -> None:
    bench = _Bench()
    clients = [bench.submit([number], max_tokens=8) for number in range(4)]
    bench.turns(4)
    bench.session.calls.clear()
    bench.turns()
    assert bench.kinds == "d"
    assert len(bench.session.calls[0]) == 4
    bench.until_idle()
    assert [client.end for client in clients] == ["length"] * 4
    assert bench.value("rows_per_step_bucket", step="decode", le="4.0") > 0
    assert bench.value("slots") == 4


def test_more_rows_than_the_largest_graph_takes_are_split() -> None:
    bench = _Bench(slots=5, decode_batches=(1, 2), prefill_batches=(5,))
    for number in range(5):
        bench.submit([number], max_tokens=8)
    bench.turns()
    assert bench.kinds == "pddd"
    assert [len(call) for call in bench.session.calls] == [5, 2, 2, 1]


def test_prompts_are_run_in_the_order_of_arrival() -> None:
    bench = _Bench(slots=2, decode_batches=(2,))
    for number in range(5):
        bench.submit([number], max_tokens=2)
    bench.until_idle()
    prompts = [row.tokens[0] for call in bench.session.calls for row in call if not isinstance(row, DecodeRow)]
    assert prompts == [0, 1, 2, 3, 4]


def test_a_slot_that_becomes_free_is_taken_in_the_next_step() -> None:
    bench = _Bench(slots=1, decode_batches=(1,))
    bench.submit([1], max_tokens=2)
    bench.submit([2], max_tokens=1)
    bench.turns(2)
    assert bench.kinds == "pdp"
    assert bench.scheduler.wait_until_idle(0)


def test_cancelling_frees_the_slot_before_the_next_step_within_a_turn() -> None:
    bench = _Bench(slots=2, decode_batches=(2,))
    first = bench.submit([1], max_tokens=10)
    bench.turns()
    second = Generation((2,), 10, _GREEDY, frozenset())
    # It hears of its first token from the prefill step, and the other one leaves before the decode step of that turn.
    bench.scheduler.submit(second, lambda _event: bench.cancel(first))
    bench.turns()
    decoded = bench.session.calls[-1]
    assert [row.slot for row in decoded] == [1]


def test_cancelling_between_two_steps_that_share_the_rows() -> None:
    bench = _Bench(decode_batches=(2,), prefill_batches=(4,))
    clients = [bench.submit([number], max_tokens=9) for number in range(4)]
    bench.turns()

    def leave(_event: Event) -> None:
        bench.cancel(clients[3])

    assert clients[0].ticket is not None
    clients[0].ticket.sink = leave
    bench.session.calls.clear()
    bench.turns()
    assert [[row.slot for row in call] for call in bench.session.calls] == [[0, 1], [2]]


def test_a_request_that_is_cancelled_during_a_step_hears_nothing_of_it() -> None:
    bench = _Bench()
    client = bench.submit([1], max_tokens=9)
    bench.turns()
    heard = len(client.events)

    def speak(prompt: Sequence[int], said: Sequence[int]) -> npt.NDArray[np.float32]:
        bench.cancel(client)
        return _speak(prompt, said)

    bench.session.speak = speak
    bench.turns()
    assert len(client.events) == heard
    bench.until_idle()


def test_a_request_that_left_the_queue_never_runs() -> None:
    bench = _Bench(slots=1, decode_batches=(1,))
    bench.submit([1], max_tokens=3)
    bench.turns()
    waiting = bench.submit([2])
    bench.cancel(waiting)
    assert bench.value("queue_depth") == 0
    bench.until_idle()
    assert waiting.events == []
    assert all(row.tokens != (2,) for call in bench.session.calls for row in call if not isinstance(row, DecodeRow))


def test_a_failing_step_fails_its_rows_and_no_others() -> None:
    bench = _Bench(slots=4, decode_batches=(2,), prefill_batches=(4,))
    clients = [bench.submit([number], max_tokens=3) for number in range(4)]
    bench.session.fail_slots = {0}
    bench.turns()
    # All share the prefill step.
    assert [client.end for client in clients] == ["Failed"] * 4
    bench.session.fail_slots = set()
    clients = [bench.submit([number], max_tokens=4) for number in range(4)]
    bench.turns()
    bench.session.fail_slots = {0}
    bench.turns()
    bench.session.fail_slots = set()
    bench.until_idle()
    assert [client.end for client in clients] == ["Failed", "Failed", "length", "length"]
    assert bench.value("engine_failures_total") == 6


def test_logits_that_are_no_numbers_fail_their_row_alone() -> None:
    bench = _Bench(prefill_batches=(4,))

    def speak(prompt: Sequence[int], said: Sequence[int]) -> npt.NDArray[np.float32]:
        return np.full(_VOCABULARY, np.nan, np.float32) if prompt[0] == 1 and said else _speak(prompt, said)

    bench.session.speak = speak
    sampled = SamplingParameters(seed=1)
    clients = [bench.submit([number], sampling=sampling) for sampling in (_GREEDY, sampled) for number in (1, 2)]
    bench.until_idle()
    assert [client.end for client in clients] == ["Failed", "length"] * 2
    assert bench.scheduler.healthy


class _Unkept:
    """A form that no answer can keep."""

    complete = False

    def allowed(self) -> npt.NDArray[np.bool_]:
        raise ConstraintBroken("no token fits")

    def take(self, token: int) -> None:
        raise AssertionError(token)


def test_a_form_that_cannot_be_kept_fails_its_request_and_says_nothing_of_the_engine() -> None:
    bench = _Bench()
    for number in range(4):
        client = _Client(Generation((number,), 4, _GREEDY, frozenset(), constrain=_Unkept))
        bench.scheduler.submit(client.generation, client.events.append)
        bench.until_idle()
        assert client.end == "Failed"
        assert bench.scheduler.healthy


@pytest.mark.parametrize("decodes", [False, True])
def test_a_kind_of_step_that_goes_on_failing_is_unhealthy(decodes: bool) -> None:
    bench = _Bench()
    for healthy in (True, True, False):
        bench.submit([1], max_tokens=5)
        bench.session.fail_decodes, bench.session.fail = decodes, not decodes
        bench.turns()
        assert bench.scheduler.healthy is healthy
    bench.session.fail_decodes = bench.session.fail = False
    bench.submit([1], max_tokens=5)
    bench.turns()
    assert bench.scheduler.healthy


def test_a_static_batch_starts_together_and_ends_before_the_next_one() -> None:
    bench = _Bench(
        slots=2,
        static_batch=True,
        chunked_prefill=False,
        prefill_tokens=12,
        prefill_batches=(2,),
        decode_batches=(2,),
    )
    clients = [bench.submit([number], max_tokens=count) for number, count in ((1, 5), (2, 2), (3, 1))]
    bench.turns(2)
    assert clients[1].end == "length"
    bench.turns()
    # A slot is free, and nobody gets it before the first row has ended too.
    assert bench.kinds == "pddd"
    assert clients[2].events == []
    bench.until_idle()
    assert bench.kinds == "pddddp"
    assert [[row.slot for row in call] for call in bench.session.calls] == [[0, 1], [0, 1], [0], [0], [0], [0]]


def test_a_static_batch_is_what_one_step_of_each_kind_takes() -> None:
    bench = _Bench(slots=8, static_batch=True, prefill_batches=(3,), decode_batches=(4,))
    for number in range(5):
        bench.submit([number], max_tokens=2)
    bench.until_idle()
    assert [len(call) for call in bench.session.calls] == [3, 3, 2, 2]


def test_prompts_share_a_step_as_long_as_nobody_waits_for_it() -> None:
    bench = _Bench(slots=5, prefill_batches=(1, 3), decode_batches=(1, 5))
    for number in range(3):
        bench.submit([number], max_tokens=6)
    bench.turns()
    assert len(bench.session.calls[0]) == 3
    bench.session.calls.clear()
    late = [bench.submit([number], max_tokens=2) for number in (7, 8)]
    bench.turns(2)
    assert bench.kinds == "pdpd"
    assert [len(call) for call in bench.session.calls[::2]] == [1, 1]
    assert all(client.tokens for client in late)


def test_one_call_of_the_sink_for_each_step() -> None:
    bench = _Bench()
    client = bench.submit([1], max_tokens=3)
    bench.until_idle()
    assert [len(event.tokens) for event in client.events if isinstance(event, Progress)] == [1, 1, 1]
    assert client.end == "length"


@pytest.mark.parametrize(("cancelled", "retry_after", "counted"), [(True, 3, 0), (False, 1, 8)])
def test_cancelled_requests_do_not_count_as_those_that_ended(cancelled: bool, retry_after: int, counted: int) -> None:
    bench = _Bench(slots=1, decode_batches=(1,))
    for _ in range(8):
        client = bench.submit([1], max_tokens=2 if not cancelled else 9)
        bench.turns()
        if cancelled:
            bench.cancel(client)
        bench.until_idle()
    assert bench.value("request_duration_seconds_count") == counted
    for _ in range(1 + _QUEUE):
        bench.submit([1])
    with pytest.raises(QueueFull) as caught:
        bench.submit([1])
    # One second for each request, until it is known better.
    assert caught.value.retry_after == retry_after


def test_an_unexpected_failure_of_the_thread_is_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = _Bench(slots=1, decode_batches=(1,))
    monkeypatch.setattr(bench.session, "release", None)
    clients = [bench.submit([1], max_tokens=1), bench.submit([2])]
    bench.scheduler.start()
    bench.scheduler._thread.join(10)
    assert [type(client.events[-1]) for client in clients] == [Failed, Failed]
    assert not bench.scheduler.healthy
    assert bench.session.closed
