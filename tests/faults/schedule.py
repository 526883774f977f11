"""Which request meets which fault: decided by a seed, by what is asked, and by how often that was asked before.

So what happens to the third creation of a Job does not depend on how many reads other workers have made meanwhile.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Schedule:
    """Faults for one life. `budget` is how many there are at most, so that the system can come to rest."""

    seed: int
    rate: float = 0.2
    budget: int = 20
    log: list[str] = field(default_factory=list)
    _asked: Counter[str] = field(default_factory=Counter)

    def draw(self, what: str, faults: Sequence[str]) -> str | None:
        """The fault that the next request (or event) of this sort meets; None for most."""
        self._asked[what] += 1
        ordinal = self._asked[what]
        chance = random.Random(f"{self.seed}/{what}/{ordinal}")
        if self.budget <= 0 or not faults or chance.random() >= self.rate:
            return None
        self.budget -= 1
        fault = chance.choice(faults)
        self.log.append(f"{what} #{ordinal}: {fault}")
        return fault

    def end(self) -> None:
        """No faults from here on."""
        self.budget = 0


def no_faults() -> Schedule:
    """An undisturbed life."""
    return Schedule(seed=0, budget=0)
