"""Keeps the leader's record in a `coordination.k8s.io` Lease."""

from typing import Any

from neuron_operator.api.lease import LeaseRecord
from neuron_operator.api.objects import LEASE, Key, Manifest

from .gateway import Gateway


class KubernetesLeaseStore:
    """One Lease object. Its gateway must not be fenced: the lease is what the fence asks."""

    def __init__(self, gateway: Gateway, key: Key) -> None:
        self._gateway = gateway
        self._key = key

    async def read(self) -> LeaseRecord | None:
        """The record, or None when there is none."""
        manifest = await self._gateway.get(LEASE, self._key)
        return None if manifest is None else _record(manifest)

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Store the first record. Raises AlreadyExists."""
        return _record(await self._gateway.create(self._manifest(record)))

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        """Store the next record. Raises Conflict.

        Of a Lease, other than of most kinds, the API server creates what is not there any more.
        """
        return _record(await self._gateway.replace(self._manifest(record)))

    def _manifest(self, record: LeaseRecord) -> Manifest:
        metadata: dict[str, Any] = {"name": self._key.name, "namespace": self._key.namespace}
        if record.resource_version:
            metadata["resourceVersion"] = record.resource_version
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": metadata,
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": record.duration_seconds,
                "acquireTime": record.acquire_time,
                "renewTime": record.renew_time,
                "leaseTransitions": record.transitions,
            },
        }


def _record(manifest: Manifest) -> LeaseRecord:
    spec = manifest.get("spec") or {}
    return LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        duration_seconds=int(spec.get("leaseDurationSeconds") or 0),
        acquire_time=spec.get("acquireTime") or "",
        renew_time=spec.get("renewTime") or "",
        transitions=int(spec.get("leaseTransitions") or 0),
        resource_version=manifest["metadata"]["resourceVersion"],
    )
