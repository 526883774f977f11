"""The API server's audit log: what was asked of it, by whom, and how it answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def audit_events(log: Path) -> Iterator[dict[str, Any]]:
    """All events in their order, but the last one while the API server is still writing it.

    The user of a request whose credentials were refused has no name.
    """
    with log.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
