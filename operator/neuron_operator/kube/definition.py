"""Whether the API server serves a kind. Without its CRD a watch would wait in silence."""

import asyncio
import logging

from neuron_operator.api.objects import Kind
from neuron_operator.errors import Rejected, Transient

from .gateway import Gateway

_RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


class NotServed(Exception):
    """The API server does not know the kind, or does not let us see it."""


async def check_definition(gateway: Gateway, kind: Kind) -> None:
    """Return once the kind can be listed. Raises NotServed when it cannot; an unreachable server is waited for."""
    while True:
        try:
            await gateway.list(kind)
            return
        except Rejected as error:
            raise NotServed(f"{error}; install the chart, with its CRD and its RBAC") from error
        except Transient as error:  # among others for a moment after the CRD was created
            logger.warning("the API server is not ready, trying again: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
