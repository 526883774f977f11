"""Asks a compile pod how far it is. No answer means unknown, never failure."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from pydantic import ValidationError

from neuron_runtime.contract.progress import PROGRESS_PORT, Progress

_TIMEOUT = aiohttp.ClientTimeout(total=1)
_BODY_LIMIT = 4096


@asynccontextmanager
async def progress_probe() -> AsyncIterator["ProgressProbe"]:
    """A probe that asks pods directly: a proxy to the world outside does not know their addresses."""
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield ProgressProbe(session)


class ProgressProbe:
    """Reads `GET /progress` of compile pods."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def read(self, pod_ip: str) -> Progress | None:
        """Progress of the pod at this address, or None when it does not say."""
        host = f"[{pod_ip}]" if ":" in pod_ip else pod_ip
        try:
            async with self._session.get(f"http://{host}:{PROGRESS_PORT}/progress", timeout=_TIMEOUT) as response:
                if response.status != 200:
                    return None
                body = bytearray()
                async for chunk in response.content.iter_chunked(_BODY_LIMIT):
                    body += chunk
                    if len(body) > _BODY_LIMIT:
                        return None
                return Progress.model_validate_json(bytes(body))
        except (aiohttp.ClientError, TimeoutError, ValidationError):
            return None
