"""When a container is started again: the kubelet's rules. Pure; times are seconds of one monotonic clock."""

from __future__ import annotations

_FIRST_SECONDS = 10.0
_LONGEST_SECONDS = 300.0
_FORGIVEN_AFTER_SECONDS = 600.0


def should_restart(policy: str, exit_code: int) -> bool:
    """Whether a container that has ended so is started again under the pod's restart policy."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


class Backoff:
    """The first restart comes at once, the next after 10 s, then twice as long each time up to 5 minutes.

    A container that ran for 10 minutes starts anew with that.
    """

    def __init__(self, first: float = _FIRST_SECONDS, longest: float = _LONGEST_SECONDS) -> None:
        self._first = first
        self._longest = longest
        self._next = 0.0

    def delay(self, ran_for: float) -> float:
        """Seconds to wait before the next start, after a run of that many seconds."""
        if ran_for >= _FORGIVEN_AFTER_SECONDS:
            self._next = 0.0
        delay = self._next
        self._next = min(max(self._first, delay * 2), self._longest)
        return delay
