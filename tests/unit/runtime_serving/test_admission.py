"""The queue: bounded, in the order of arrival, honest about when there is room again."""

from __future__ import annotations

import pytest

from neuron_runtime.serving.admission import AdmissionQueue, QueueFull
from neuron_runtime.serving.generation import Generation, Ticket
from neuron_runtime.serving.sampling import SamplingParameters


def _ticket() -> Ticket:
    return Ticket(Generation((1,), 1, SamplingParameters(), frozenset()), lambda _event: None, lambda _ticket: None)


def test_first_come_first_served() -> None:
    queue = AdmissionQueue(limit=3, slots=1)
    tickets = [_ticket() for _ in range(3)]
    for ticket in tickets:
        queue.add(ticket, free=0)
    assert queue.remove(tickets[1])
    assert not queue.remove(tickets[1])
    assert [queue.pop(), queue.pop()] == [tickets[0], tickets[2]]


def test_those_that_can_start_at_once_take_no_place() -> None:
    queue = AdmissionQueue(limit=1, slots=2)
    for _ in range(3):
        queue.add(_ticket(), free=2)
    with pytest.raises(QueueFull):
        queue.add(_ticket(), free=2)


@pytest.mark.parametrize(
    ("seconds", "slots", "least", "most"), [(10.0, 1, 80, 60), (10.0, 4, 20, 30), (0.01, 4, 1, 1), (1e6, 1, 60, 60)]
)
def test_when_to_come_back(seconds: float, slots: int, least: int, most: int) -> None:
    queue = AdmissionQueue(limit=19, slots=slots)
    for _ in range(50):
        queue.learn(seconds)
    for _ in range(19):
        queue.add(_ticket(), free=0)
    with pytest.raises(QueueFull) as caught:
        queue.add(_ticket(), free=0)
    assert min(least, 60) <= caught.value.retry_after <= most
