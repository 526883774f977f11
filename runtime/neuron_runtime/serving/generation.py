"""What one request asks of the engine, and what it hears of it."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from .sampling import Constraint, SamplingParameters, TokenLogprobs

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Generation:
    """What the engine is asked for. Prompt and answer together fit into the context: the caller has checked it."""

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParameters
    end_tokens: frozenset[int]
    """Tokens that end the answer; they are not part of it."""
    logprobs: int | None = None
    """Alternatives that are told with each token; None: nothing is told."""
    constrain: Callable[[], Constraint] | None = None
    """Begins what the answer is held to."""


@dataclass(frozen=True)
class Progress:
    """What came out of one step."""

    tokens: tuple[int, ...]
    reason: FinishReason | None = None
    """Why no token follows; None while some do."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each token, where they were asked for."""


@dataclass(frozen=True)
class Failed:
    """The engine failed; nothing follows."""

    message: str

    @classmethod
    def of(cls, error: Exception) -> "Failed":
        """Told by the error's kind alone: its text is for the log."""
        return cls(f"the engine failed: {type(error).__name__}")


@dataclass(frozen=True)
class Dropped:
    """The server ends before the answer does; nothing follows."""


Event = Progress | Failed | Dropped
Sink = Callable[[Event], None]
"""Called once for each step; must return at once, and must not raise."""


class Ticket:
    """A request's place in the queue, or its hold on the engine."""

    def __init__(self, generation: Generation, sink: Sink, withdraw: "Callable[[Ticket], None]") -> None:
        self.generation = generation
        self.sink = sink
        self.submitted = perf_counter()
        self.cancelled = False
        self._withdraw = withdraw

    def cancel(self) -> None:
        """Nobody waits for this request any more: it stops before the next step. The sink may be called once more."""
        self.cancelled = True
        self._withdraw(self)
