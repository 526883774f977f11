"""What a terminated container says about its failure.

Evidence in this order: the termination message that our entry points write, the kubelet's reason, the exit code. A
message that is not ours is the tail of the container's log (`FallbackToLogsOnError`) and is kept as that.
"""

from dataclasses import dataclass
from typing import Any

from neuron_runtime.contract.outcome import TerminationMessage

from .catalogue import CATALOGUE, OUT_OF_MEMORY, UNKNOWN, Entry, RetryClass

# Less than the schema allows: the whole status has to stay below 8 KiB.
_LOG_TAIL_LIMIT = 1800


@dataclass(frozen=True)
class Diagnosis:
    """A failure with its name, cause and remedy."""

    code: str
    message: str
    exit_code: int | None = None
    time: str | None = None
    """RFC 3339."""
    log_tail: str | None = None
    serving: bool = False
    """Whether the container was one that serves."""
    entry: Entry | None = None
    """What holds instead of the catalogue's entry, if anything does."""

    @property
    def remedy(self) -> str:
        """What a person can do, naming the field."""
        return self._entry.remedy

    @property
    def retry(self) -> RetryClass:
        """What trying again is worth."""
        return self._entry.retry

    @property
    def _entry(self) -> Entry:
        if self.entry is not None:
            return self.entry
        entry = CATALOGUE[self.code]
        return entry.serving if self.serving and entry.serving is not None else entry


def diagnose_termination(terminated: dict[str, Any], *, serving: bool = False) -> Diagnosis | None:
    """Diagnose a container's `state.terminated`; None when it ended well. `serving` tells a server from a compile."""
    exit_code = int(terminated.get("exitCode", 0))
    if exit_code == 0:
        return None
    text = terminated.get("message") or ""
    time = terminated.get("finishedAt")
    left = TerminationMessage.decode(text)
    if left is not None and left.code is not None:
        return Diagnosis(left.code.value, left.message, exit_code, time, serving=serving)
    log_tail = text[-_LOG_TAIL_LIMIT:] or None
    if terminated.get("reason") == "OOMKilled":
        cause = "The container was killed at its memory limit"
        return Diagnosis(OUT_OF_MEMORY, cause, exit_code, time, log_tail, serving)
    return Diagnosis(UNKNOWN, _describe(exit_code), exit_code, time, log_tail, serving)


def _describe(exit_code: int) -> str:
    if exit_code > 128:
        return f"The container was ended by signal {exit_code - 128}"
    return f"The container exited with code {exit_code}"
