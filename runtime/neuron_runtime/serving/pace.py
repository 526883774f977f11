"""How fast requests are served, and so when one that is refused should come again."""

from math import ceil

_LONGEST_RETRY_AFTER = 60
_WEIGHT_OF_THE_LATEST = 0.2


class Pace:
    """What one of many takes, `at_once` of which run side by side."""

    def __init__(self, at_once: int, seconds: float = 1.0) -> None:
        self._at_once = at_once
        self._usual_seconds = seconds

    def learn(self, seconds: float) -> None:
        """One that ran to its end took so long, from its start."""
        self._usual_seconds += _WEIGHT_OF_THE_LATEST * (seconds - self._usual_seconds)

    def retry_after(self, waiting: int) -> int:
        """Whole seconds until there is likely to be room, where so many wait."""
        # Until half of those that wait have started: those who come back then find room, and do not come all at once.
        wait = (waiting + 1) / 2 * self._usual_seconds / self._at_once
        return max(1, min(_LONGEST_RETRY_AFTER, ceil(wait)))
