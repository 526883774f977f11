"""Reads the API server's audit log: who wrote what and when, by one clock."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from control_loop.objects import model_of

_READS = ("get", "list", "watch")
# Not of a single model, or not state: counted apart.
_APART = ("events", "leases", "serviceaccounts")


@dataclass(frozen=True)
class Write:
    """A request that changed something, or was to."""

    agent: str
    """First word of the user agent."""
    verb: str
    resource: str
    """Plural, with the subresource."""
    namespace: str
    model: str
    received: float
    """Seconds since the epoch, as are all times here."""
    answered: float
    code: int

    @property
    def is_apart(self) -> bool:
        return self.resource.partition("/")[0] in _APART


def read_writes(log: Path, agents: Sequence[str], since: float = 0.0) -> list[Write]:
    """Writes of others than the control plane, oldest first, and none of a user agent that `agents` does not name."""
    found = [_write(event) for event in _events(log) if event["verb"] not in _READS]
    return sorted(
        (write for write in found if write.agent in agents and write.received >= since),
        key=lambda write: write.received,
    )


def per_model(writes: Iterable[Write], models: int) -> dict[str, float]:
    """Average count of each verb and resource; refused writes, which changed nothing, count as well."""
    counts = Counter(f"{write.verb} {write.resource}" for write in writes)
    return {name: round(count / models, 3) for name, count in sorted(counts.items())}


def reactions(causes: Iterable[Write], writes: Sequence[Write]) -> list[float]:
    """Seconds from the answer to each cause to the answer to the next write on the same model."""
    by_model: dict[tuple[str, str], list[Write]] = {}
    for write in writes:
        by_model.setdefault((write.namespace, write.model), []).append(write)
    found = []
    for cause in causes:
        after = by_model.get((cause.namespace, cause.model), [])
        answer = next((write for write in after if write.received > cause.answered), None)
        if answer is not None:
            found.append(answer.answered - cause.answered)
    return found


def _events(log: Path) -> Iterator[dict[str, Any]]:
    # Rotated files have the time in their names.
    for file in [*sorted(log.parent.glob(f"{log.stem}-*{log.suffix}")), log]:
        with file.open() as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:  # being written
                    continue
                if event["stage"] == "ResponseComplete":
                    yield event


def _write(event: dict[str, Any]) -> Write:
    of = event.get("objectRef") or {}
    return Write(
        agent=event.get("userAgent", "").partition("/")[0],
        verb=event["verb"],
        resource="/".join(filter(None, (of.get("resource"), of.get("subresource")))),
        namespace=of.get("namespace", ""),
        model=model_of(of.get("name") or ""),
        received=_seconds(event["requestReceivedTimestamp"]),
        answered=_seconds(event["stageTimestamp"]),
        code=int(event["responseStatus"]["code"]),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
