"""The operator's errors. The edges (`kube`, `aws`, `hub`) translate what their libraries raise into these.

OperatorError
  Transient         the same call may succeed later: network, timeout, 429, 5xx, throttling
  Conflict          somebody else wrote the object since we read it (409): read and try again
  AlreadyExists     a create met an object of the same name (409)
  Rejected          the API server will refuse the same call again: 400, 403, 422
  NamespaceEnding   the namespace is being deleted; nothing can be created in it any more
  NotLeader         this replica does not hold the Lease, or not for long enough to finish the write
"""


class OperatorError(Exception):
    """Base of all errors that the operator raises on purpose."""


class Transient(OperatorError):
    """The same call may succeed later. `after` is the wait in seconds that the other side asked for, if it did."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Conflict(OperatorError):
    """Somebody else wrote the object since we read it."""


class AlreadyExists(OperatorError):
    """A create met an object of the same name."""


class Rejected(OperatorError):
    """The API server refused, and will refuse the same call again."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NamespaceEnding(OperatorError):
    """The namespace is being deleted; nothing can be created in it any more."""


class NotLeader(OperatorError):
    """This replica may not write now."""
