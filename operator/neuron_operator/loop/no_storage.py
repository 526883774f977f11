"""kopf's storages of what it has handled, with nothing in them.

They serve handlers that are called for what changed since the last time. There are none of these here; yet for each
event kopf makes two deep copies of the object to look for changes, which is most of what an event costs it.
"""

from collections.abc import Iterable
from typing import Any

import kopf


class NoEssence(kopf.DiffBaseStorage):
    """Nothing of an object counts as a change of it."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        """What is compared: nothing."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """What it is compared with: nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Write nothing."""


class NoProgress(kopf.ProgressStorage):
    """No handler has a state."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        """No state."""

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Write nothing."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Remove nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Write nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """There is no state in it."""
        return essence
