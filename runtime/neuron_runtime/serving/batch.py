"""Which rows the engine's next steps take. Decides, and keeps the slots; runs nothing.

While answers run, prompts go with their steps, as many tokens as there is room for: a step of their own would read all
weights once more, and stall the answers for longer than a step of theirs takes. Where graphs cannot do that, or more
requests wait for an answer than are answered, there is one prefill step between two decode steps. Graphs that only
batch statically get their rows together, and the next ones when the last of them has ended.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from neuron_runtime.engines.base import Capabilities, DecodeRow, PrefillRow, Sampling, Step

from .generation import FinishReason, Progress, Ticket
from .sampling import Sampler, token_logprobs


class Row:
    """One request in its slot."""

    def __init__(self, ticket: Ticket, slot: int, started: float, sampling: Sampling) -> None:
        self.ticket = ticket
        self.slot = slot
        self.started = started
        """When it got its slot."""
        self.heard: float | None = None
        """When its newest token came."""
        self.ended = False
        self._on_device = sampling is Sampling.ON_DEVICE
        constrain = ticket.generation.constrain
        self._sampler = Sampler(ticket.generation.sampling, constrain() if constrain is not None else None)
        self._prefilled = 0
        self._generated = 0
        self._newest = 0

    @property
    def prefilling(self) -> bool:
        """Whether tokens of the prompt have still to be run."""
        return self.remaining > 0

    @property
    def remaining(self) -> int:
        """Tokens of the prompt that have still to be run."""
        return len(self.ticket.generation.prompt) - self._prefilled

    def chunk(self, limit: int) -> PrefillRow:
        """The next tokens of the prompt."""
        start = self._prefilled
        return PrefillRow(self.slot, self.ticket.generation.prompt[start : start + limit], start)

    def prefilled(self, chunk: PrefillRow) -> None:
        """The chunk was run."""
        self._prefilled += len(chunk.tokens)

    def newest(self) -> DecodeRow:
        """The newest token, which has not been run yet."""
        return DecodeRow(self.slot, self._newest, len(self.ticket.generation.prompt) + self._generated - 1)

    def advance(self, step: Step, index: int) -> Progress:
        """Take the token that follows from row `index` of a step's results. Raises NotFinite, ValueError."""
        token = self._choose(step, index)
        generation = self.ticket.generation
        if token in generation.end_tokens:
            return Progress((), "stop")
        self._newest = token
        self._generated += 1
        reason: FinishReason | None = "length" if self._generated == generation.max_tokens else None
        if self._sampler.complete:
            reason = "stop"
        if generation.logprobs is None or step.logits is None:
            return Progress((token,), reason)
        return Progress((token,), reason, (token_logprobs(step.logits[index], token, generation.logprobs),))

    def _choose(self, step: Step, index: int) -> int:
        likeliest = int(step.tokens[index])
        if self._on_device:
            return likeliest
        if step.logits is None:
            raise ValueError("a step without logits")
        return self._sampler.choose(step.logits[index], likeliest)


def share_room(remaining: Sequence[int], room: int) -> list[int]:
    """How many of the tokens that remain of prompts, the oldest first, one step takes of each.

    Half of the room is the oldest's, so that none waits for ever; the rest goes to those that are done soonest, so that
    a short prompt does not wait for all of a long one.
    """
    shares = [0] * len(remaining)
    if remaining:
        shares[0] = min(remaining[0], -(-room // 2))
    left = room - sum(shares)
    for index in sorted(range(len(remaining)), key=lambda index: remaining[index] - shares[index]):
        more = min(remaining[index] - shares[index], left)
        shares[index] += more
        left -= more
    return shares


Planned = tuple[Row, PrefillRow]
"""A row, and the tokens of its prompt that a step takes."""


@dataclass(frozen=True)
class DecodePlan:
    """What one decode step takes."""

    rows: Sequence[Row]
    """Each gets a token."""
    prompts: Sequence[Planned]
    """Tokens of others' prompts, where there is room."""

    @property
    def live(self) -> "DecodePlan":
        """Without the rows that have ended since."""
        return DecodePlan(
            [row for row in self.rows if not row.ended],
            [(row, chunk) for row, chunk in self.prompts if not row.ended],
        )


class Batch:
    """Rows that share the engine, in the order in which they came."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._limits = capabilities
        self._static = capabilities.static_batch
        # Graphs that batch statically take all rows in every step.
        self._size = capabilities.slots
        if self._static:
            self._size = min(self._size, capabilities.prefill_batches[-1], capabilities.decode_batches[-1])
        self._free = list(range(self._size))
        self._rows: list[Row] = []
        self._open = True

    def __iter__(self) -> Iterator[Row]:
        return iter(tuple(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """Most rows that there can be."""
        return self._size

    @property
    def free(self) -> int:
        """Rows that could start now."""
        return len(self._free) if self._open else 0

    def start(self, ticket: Ticket, now: float) -> Row:
        """Give a request a slot; there must be a free one."""
        row = Row(ticket, heappop(self._free), now, self._limits.sampling)
        self._rows.append(row)
        return row

    def end(self, row: Row) -> None:
        """Take a row's slot back."""
        row.ended = True
        self._rows.remove(row)
        heappush(self._free, row.slot)
        if not self._rows:
            self._open = True

    def next_prefill(self) -> list[Planned]:
        """What the next prefill step takes; nothing when all prompts have been run, or go with the decode step."""
        prefilling = [row for row in self._rows if row.prefilling]
        decoding = len(self._rows) - len(prefilling)
        # Where more wait for an answer than are answered, the stall is worth it: a prefill step does most in its time.
        if not prefilling or (len(prefilling) <= decoding and self._room_beside(decoding)):
            return []
        self._open = not self._static
        batches = self._limits.prefill_batches
        # A step of few rows is over sooner. Those whose answers run wait for it.
        most = batches[0] if len(prefilling) < len(self._rows) and not self._static else batches[-1]
        limit = self._limits.prefill_tokens if self._limits.chunked_prefill else self._limits.max_model_length
        return [(row, row.chunk(limit)) for row in prefilling[:most]]

    def next_decodes(self) -> list[DecodePlan]:
        """What the decode steps take that advance every row by one token; one step wherever the graphs allow it."""
        if self._static and any(row.prefilling for row in self._rows):
            return []
        rows = [row for row in self._rows if not row.prefilling]
        most = self._limits.decode_batches[-1]
        shares = [rows[first : first + most] for first in range(0, len(rows), most)]
        return [DecodePlan(share, self._prompts_beside(len(rows)) if share is shares[-1] else ()) for share in shares]

    def _prompts_beside(self, decoding: int) -> list[Planned]:
        """Prompts' next tokens, as many as go with rows that are decoded."""
        rows = [row for row in self._rows if row.prefilling]
        shares = share_room([row.remaining for row in rows], self._room_beside(decoding))
        return [(row, row.chunk(share)) for row, share in zip(rows, shares, strict=True) if share]

    def _room_beside(self, decoding: int) -> int:
        """Tokens of prompts that go with so many rows in their last decode step."""
        if not self._limits.mixed_steps:
            return 0
        return -decoding % self._limits.decode_batches[-1]
