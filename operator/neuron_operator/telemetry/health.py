"""The operator's HTTP endpoints: `/healthz`, `/readyz`, `/metrics` on port 8080."""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from .metrics import Metrics

PORT = 8080


@asynccontextmanager
async def health_server(
    metrics: Metrics, *, live: Callable[[], bool], ready: Callable[[], bool]
) -> AsyncIterator[None]:
    """Serve while the context lasts, on `BIND_ADDRESS` or on all addresses."""

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), content_type="text/plain")

    application = web.Application()
    application.add_routes(
        [
            web.get("/healthz", _answer(live)),
            web.get("/readyz", _answer(ready)),
            web.get("/metrics", exposition),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, _address(), PORT).start()
        yield
    finally:
        await runner.cleanup()


def _answer(holds: Callable[[], bool]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if holds() else web.Response(text="no\n", status=503)

    return answer


def _address() -> str:
    return os.environ.get("BIND_ADDRESS") or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104
