"""Why there is no plan: a cause, and the smallest change that would give one."""


class Refusal(Exception):
    """Base of what planning raises. Its text is both parts, each of which names the field that it is about."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}. {remedy}")
        self.cause = cause
        self.remedy = remedy


class UnsupportedModel(Refusal):
    """The configuration describes a model that no engine here can compile."""


class DoesNotFit(Refusal):
    """What was asked for is more than the model or the hardware has."""
