"""What the compile container answers at `GET /progress` (at most 4 KiB)."""

from enum import Enum

from pydantic import NonNegativeFloat, NonNegativeInt

from .digests import ContractModel

PROGRESS_PORT = 8081


class Stage(str, Enum):
    """Stages of a compile Job, in their order."""

    STARTING = "Starting"
    FETCHING = "Fetching"
    COMPILING = "Compiling"
    UPLOADING = "Uploading"
    DONE = "Done"


class Progress(ContractModel):
    """How far one stage is. `done` and `total` count what the stage counts: bytes, or steps of graphs."""

    stage: Stage
    done: NonNegativeInt = 0
    total: NonNegativeInt = 0
    eta_seconds: NonNegativeFloat | None = None
    """Until the stage's end; absent while it cannot be told."""
    detail: str = ""
    """For people, for example the graph in work."""

    @property
    def percent(self) -> int:
        """Share of the stage that is done, 0 to 100."""
        if self.total == 0:
            return 0
        return min(100, 100 * self.done // self.total)
