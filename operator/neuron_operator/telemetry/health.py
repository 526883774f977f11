"""The operator's HTTP endpoints: `/healthz`, `/readyz`, `/metrics` on port 8080."""

import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from .metrics import Metrics

PORT = 8080
BIND_ADDRESS_VARIABLE = "BIND_ADDRESS"


class Heartbeat:
    """Whether something that must go on happening still happens. Before it first happens there is nothing to miss."""

    def __init__(self, limit_seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_seconds
        self._clock = clock
        self._last: float | None = None

    def beat(self) -> None:
        """It happened."""
        self._last = self._clock()

    def is_fresh(self) -> bool:
        """Whether it happened within the limit."""
        return self._last is None or self._clock() - self._last <= self._limit


@asynccontextmanager
async def health_server(
    metrics: Metrics, *, live: Callable[[], bool], ready: Callable[[], bool], port: int = PORT
) -> AsyncIterator[int]:
    """Serve while the context lasts, on `BIND_ADDRESS` or on all addresses; the value is the port."""

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), content_type="text/plain", charset="utf-8")

    application = web.Application(middlewares=[_close_afterwards])
    application.add_routes(
        [
            web.get("/healthz", _answer(live)),
            web.get("/readyz", _answer(ready)),
            web.get("/metrics", exposition),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    with _listening(port) as listening:
        await runner.setup()
        try:
            await web.SockSite(runner, listening).start()
            yield int(listening.getsockname()[1])
        finally:
            await runner.cleanup()


@web.middleware
async def _close_afterwards(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A connection that is kept open is a task, and kopf waits five seconds for other tasks before it ends.
    response = await handler(request)
    response.force_close()
    return response


def _answer(holds: Callable[[], bool]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if holds() else web.Response(text="no\n", status=503)

    return answer


def _listening(port: int) -> socket.socket:
    """A listening socket. Made here, because asyncio lets one on `::` take no IPv4 connections, as probes may be."""
    address = os.environ.get(BIND_ADDRESS_VARIABLE)
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("0.0.0.0", port))  # noqa: S104
