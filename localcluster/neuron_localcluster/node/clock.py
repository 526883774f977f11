"""Times as the API server writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def seconds_text(moment: datetime) -> str:
    """RFC 3339 with whole seconds, as `metav1.Time` is."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micros_text(moment: datetime) -> str:
    """RFC 3339 with microseconds, as `metav1.MicroTime` is."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str) -> datetime:
    """Raises ValueError when the text is not RFC 3339."""
    return datetime.fromisoformat(text)
