"""Records Kubernetes events. An event that cannot be recorded is logged and lost: nothing depends on it."""

import logging
import uuid
from datetime import UTC, datetime

from neuron_operator.api.objects import EVENT, Manifest
from neuron_operator.errors import OperatorError

from .gateway import Gateway

_CONTROLLER = "neuron-operator.dev/operator"
# The API server calls them characters and counts bytes.
_NOTE_LIMIT_BYTES = 1024

logger = logging.getLogger(__name__)


class EventRecorder:
    """Records events as one replica of the operator."""

    def __init__(self, gateway: Gateway, instance: str) -> None:
        self._gateway = gateway
        self._instance = instance

    async def record(self, regarding: Manifest, type: str, reason: str, note: str) -> None:
        """Record an event on an object. `type` is Normal or Warning. Never raises an OperatorError."""
        metadata = regarding["metadata"]
        event = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {
                "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
                "namespace": metadata["namespace"],
            },
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": _CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": type,
            "reason": reason,
            "note": note.encode()[:_NOTE_LIMIT_BYTES].decode(errors="ignore"),
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }
        try:
            await self._gateway.create(event)
        except OperatorError as error:
            logger.warning("event %s was not recorded: %s", reason, error)
