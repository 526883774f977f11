"""Which texts share an encoder's step: those of one length, of all requests in turn, and of rows as few as can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_runtime.engines.base import EncoderCapabilities
from neuron_runtime.serving.admission import QueueFull
from neuron_runtime.serving.encoding import EncodingTicket
from neuron_runtime.serving.encoding_queue import EncodingQueue, WaitingText, rows_of_step

_CAPABILITIES = EncoderCapabilities(lengths=(4, 16, 64), batches=(1, 4), vocabulary=10, dimensions=1)


def _ticket(*lengths: int) -> EncodingTicket:
    return EncodingTicket([(1,) * length for length in lengths], lambda _event: None, lambda _ticket: None)


def _queue(*tickets: EncodingTicket, limit: int = 1000) -> EncodingQueue:
    queue = EncodingQueue(_CAPABILITIES, limit)
    for ticket in tickets:
        queue.add(ticket)
    return queue


def _lengths(step: list[WaitingText]) -> list[int]:
    return [len(text.tokens) for text in step]


def _steps(queue: EncodingQueue) -> list[list[int]]:
    steps = []
    while step := queue.take_step():
        steps.append(_lengths(step))
    return steps


def test_nothing_waits() -> None:
    assert _queue().take_step() == []


def test_texts_of_one_length_share_a_step() -> None:
    assert _steps(_queue(_ticket(3, 60, 4, 50, 2, 40, 1, 33))) == [[60, 50, 40, 33], [3, 4, 2, 1]]


def test_texts_of_several_requests_share_a_step() -> None:
    assert _steps(_queue(_ticket(3), _ticket(4), _ticket(2), _ticket(1))) == [[3, 4, 2, 1]]


def test_shorter_texts_ride_in_rows_that_would_be_empty() -> None:
    assert _steps(_queue(_ticket(60, 50, 40, 3), _ticket(2))) == [[60, 50, 40, 3], [2]]


def test_the_longest_of_shorter_texts_ride_first() -> None:
    assert _steps(_queue(_ticket(60, 50, 40, 3, 10))) == [[60, 50, 40, 10], [3]]


def test_few_texts_run_alone_rather_than_with_empty_rows() -> None:
    assert _steps(_queue(_ticket(60, 50, 3))) == [[60], [50], [3]]


def test_a_request_of_many_texts_does_not_hold_up_others() -> None:
    many, few = _ticket(*[3] * 400), _ticket(4, 4)
    queue = _queue(many, few)
    first = queue.take_step()
    assert [text.ticket is few for text in first] == [False, True, False, True]
    late = _ticket(60)
    queue.add(late)
    # Whoever had a turn is behind those who had none.
    assert [text.ticket for text in queue.take_step() + queue.take_step()][-1] is late


def test_what_waits_is_bounded_but_for_one_request() -> None:
    queue = _queue(_ticket(*[1] * 50), limit=10)
    with pytest.raises(QueueFull) as refused:
        queue.add(_ticket(1))
    assert 1 <= refused.value.retry_after <= 60
    while queue.texts > 2:
        queue.take_step()
    queue.add(_ticket(*[1] * 8))
    with pytest.raises(QueueFull):
        queue.add(_ticket(1))


def test_when_to_come_back_follows_from_what_steps_take() -> None:
    queue = _queue(_ticket(*[1] * 38), limit=10)
    for _ in range(50):
        queue.learn(2.0, texts=4)
    with pytest.raises(QueueFull) as refused:
        queue.add(_ticket(1))
    assert refused.value.retry_after == 10


def test_a_request_that_leaves_takes_its_texts_with_it() -> None:
    gone, stays = _ticket(3, 60, 2), _ticket(1)
    queue = _queue(gone, stays)
    assert queue.remove(gone)
    assert not queue.remove(gone)
    assert (queue.texts, len(queue)) == (1, 1)
    assert _steps(queue) == [[1]]


@pytest.mark.parametrize(
    ("waiting", "batches", "rows"),
    [
        (1, (1, 4), 1),
        (2, (1, 4), 1),
        (3, (1, 4), 4),
        (4, (1, 4), 4),
        (9, (1, 4), 4),
        (1, (2, 4), 2),
        (1, (8,), 8),
        (2, (1, 2, 8), 2),
        (4, (1, 2, 8), 2),
        (5, (1, 2, 8), 8),
        (3, (1, 2, 3), 3),
    ],
)
def test_a_batch_is_full_or_more_than_half_full(waiting: int, batches: tuple[int, ...], rows: int) -> None:
    assert rows_of_step(waiting, batches) == rows


@given(requests=st.lists(st.lists(st.integers(1, 64), min_size=1, max_size=12), max_size=6))
def test_every_text_runs_once_in_a_step_that_can_hold_it(requests: list[list[int]]) -> None:
    tickets = [_ticket(*lengths) for lengths in requests]
    queue = _queue(*tickets)
    taken: list[WaitingText] = []
    while step := queue.take_step():
        assert len(step) <= 4
        taken += step
        assert queue.texts == sum(map(len, requests)) - len(taken)
    assert sorted((tickets.index(text.ticket), text.number) for text in taken) == [
        (number, index) for number, lengths in enumerate(requests) for index in range(len(lengths))
    ]
    assert len(queue) == 0
