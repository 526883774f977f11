"""Why a stage of the demo failed, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class DemoFailed(Exception):
    """A stage cannot go on. `excerpt` are lines that explain it, `log` is where there are more."""

    def __init__(
        self, reason: str, *, remedy: str = "", excerpt: Sequence[str] = (), log: Path | str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.excerpt = tuple(excerpt)
        self.log = log
