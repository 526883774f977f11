"""How a container ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ContainerEnd:
    """An exit code, and what the container leaves at its termination message path."""

    exit_code: int = 0
    message: str = ""

    @property
    def succeeded(self) -> bool:
        return self.exit_code == 0

    @property
    def reason(self) -> str:
        """The kubelet's word for it."""
        return "Completed" if self.succeeded else "Error"
