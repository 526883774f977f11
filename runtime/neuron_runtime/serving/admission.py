"""Who waits for the engine: first come, first served, and no more than can be told an honest time to come back."""

from collections import deque

from .generation import Ticket
from .pace import Pace


class QueueFull(Exception):
    """As many requests wait as may wait."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; retry in {retry_after} s")
        self.retry_after = retry_after
        """Seconds until there is likely to be room."""


class AdmissionQueue:
    """Tickets that wait. Not thread-safe."""

    def __init__(self, limit: int, slots: int) -> None:
        self._limit = limit
        self._pace = Pace(slots)
        self._waiting: deque[Ticket] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ticket: Ticket, free: int) -> None:
        """Wait, or start at once in one of the `free` slots. Raises QueueFull."""
        # A request that can start at once does not wait, so it needs no place among those that do.
        if len(self._waiting) >= self._limit + free:
            raise QueueFull(self._pace.retry_after(len(self._waiting)))
        self._waiting.append(ticket)

    def pop(self) -> Ticket:
        """The one that has waited longest."""
        return self._waiting.popleft()

    def remove(self, ticket: Ticket) -> bool:
        """Take out a ticket; False when it does not wait."""
        if ticket not in self._waiting:
            return False
        self._waiting.remove(ticket)
        return True

    def clear(self) -> list[Ticket]:
        """Take out all."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def learn(self, seconds: float) -> None:
        """A request that ran to its end took so long, from its start."""
        self._pace.learn(seconds)
