"""Which request meets which fault: decided by a seed, by what is asked, and by how often that was asked before.

So what happens to the third creation of a Job does not depend on how many reads other workers have made meanwhile.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Schedule:
    """Faults for one life. `budget` is how many there are at most, so that the system can come to rest.

    `rate` is how many of a write, an event or a request to S3 meet a fault. A start alone takes dozens of reads, which
    are not to use up the budget: of those it is a part. `life` makes of one seed another schedule for each life.
    """

    seed: int
    life: str = ""
    rate: float = 0.3
    budget: int = 20
    told: Mapping[str, str] | None = None
    """Instead of what the seed says: the fault of each request that meets one, as `log` names them."""
    log: list[str] = field(default_factory=list)
    _asked: Counter[str] = field(default_factory=Counter)

    def draw(self, what: str, faults: Sequence[str]) -> str | None:
        """The fault that the next request (or event) of this sort meets; None for most."""
        self._asked[what] += 1
        ordinal = self._asked[what]
        if self.told is not None:
            fault = self.told.get(f"{what} #{ordinal}")
            if fault is not None:
                self.log.append(f"{what} #{ordinal}: {fault}")
            return fault
        chance = random.Random(f"{self.seed}/{self.life}/{what}/{ordinal}")
        if self.budget <= 0 or not faults or chance.random() >= self.rate * _part(what):
            return None
        self.budget -= 1
        fault = chance.choice(faults)
        self.log.append(f"{what} #{ordinal}: {fault}")
        return fault

    def end(self) -> None:
        """No faults from here on."""
        self.budget, self.told = 0, None


def _part(what: str) -> float:
    verb, _, resource = what.partition(" ")
    if resource == "discovery":
        return 0.05
    return 0.3 if verb in ("get", "list", "watch") else 1.0


def told(**faults: str) -> Schedule:
    """Faults one by one: `told(delete_jobs_1="409")` refuses the first deletion of a Job."""
    named = {}
    for name, fault in faults.items():
        *what, ordinal = name.split("_")
        named[f"{' '.join(what)} #{ordinal}"] = fault
    return Schedule(seed=0, told=named)


def no_faults() -> Schedule:
    """An undisturbed life."""
    return Schedule(seed=0, budget=0)
