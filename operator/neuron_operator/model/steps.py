"""What a phase returns: go on, wait, or fail. Expected states are values, never exceptions."""

from dataclasses import dataclass

from neuron_operator.api.conditions import ConditionType, Reason
from neuron_operator.api.fields import shortened
from neuron_operator.api.status import WaitingFor


@dataclass(frozen=True)
class Continue:
    """The phase has nothing left to do; the next one follows."""


@dataclass(frozen=True)
class Wait:
    """Something is under way. An event wakes the model up, and at the latest `after` seconds do."""

    reason: Reason
    message: str
    after: float | None = None
    waiting_for: WaitingFor | None = None
    """Something outside the operator's hands."""


@dataclass(frozen=True)
class Fail:
    """Somebody has to change something. `after` is when to look again all the same, in seconds."""

    reason: Reason
    cause: str
    remedy: str
    """What a person can do, naming the field."""
    after: float | None = None
    condition: ConditionType | None = None
    """Condition that is false by this; the phase's own when absent."""

    @property
    def message(self) -> str:
        """Cause and remedy, the cause cut so that the remedy is not."""
        return f"{as_cause(self.cause)}. {self.remedy}"


Step = Continue | Wait | Fail

_CAUSE_LENGTH = 240


def as_cause(text: str) -> str:
    """A cause as one line of status may hold it: short enough that the remedy behind it is not cut off."""
    return shortened(text, _CAUSE_LENGTH)
