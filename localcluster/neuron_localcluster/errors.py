"""What can go wrong when a local cluster is brought up or down; every message says what to do next."""

from __future__ import annotations

from pathlib import Path

_TAIL_LINES = 15


class ClusterError(Exception):
    """The cluster could not do what was asked; the message names the stage and the remedy."""


class BinariesUnavailable(ClusterError):
    """A program of the control plane could neither be found, downloaded nor built."""


class StageFailed(ClusterError):
    """A stage of `up` failed; the message ends with the last lines of the log that explains it."""

    def __init__(self, stage: str, reason: str, log: Path) -> None:
        self.stage = stage
        self.reason = reason
        self.log = log
        super().__init__(f"{stage}: {reason}; log: {log}{_quoted_tail(log)}")


def tail(log: Path, lines: int = _TAIL_LINES) -> list[str]:
    """The last lines of a log, none when it does not exist."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def _quoted_tail(log: Path) -> str:
    return "".join(f"\n  | {line[:400]}" for line in tail(log))
