"""A `coordination.k8s.io` Lease, as far as leadership goes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LeaseRecord:
    """A Lease as the API server holds it."""

    holder: str
    """Identity of the leader; empty when the lease was released."""
    duration_seconds: int
    acquire_time: str
    """RFC 3339 with microseconds."""
    renew_time: str
    transitions: int
    resource_version: str
    """Empty for a record that was never stored."""
