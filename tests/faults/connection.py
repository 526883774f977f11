"""An HTTP server that forwards, and can break off as networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

# Of the connection between client and proxy, or of the form of a body that the proxy has read as a whole.
_OF_THE_HOP = frozenset({"connection", "content-length", "expect", "keep-alive", "transfer-encoding", "upgrade"})

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Answer:
    """What the upstream said."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> web.Response:
        return web.Response(status=self.status, headers=self.headers, body=self.body)


def forwarded(headers: web.BaseRequest | dict[str, str]) -> dict[str, str]:
    """Headers without those that are the connection's own."""
    items = headers.headers.items() if isinstance(headers, web.BaseRequest) else headers.items()
    return {name: value for name, value in items if name.lower() not in _OF_THE_HOP}


def reset(request: web.BaseRequest) -> web.Response:
    """End the connection with a RST. The value is never seen by anybody."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()  # type: ignore[attr-defined]
    return web.Response()


async def cut(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Send half of the body that was announced, and end the connection."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """Answer on loopback; the value is the port. What is not answered at the end never is."""
    at_work: set[asyncio.Task[web.StreamResponse]] = set()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        work = asyncio.ensure_future(handler(request))
        at_work.add(work)
        await asyncio.wait({work})
        at_work.discard(work)
        if work.cancelled():
            return reset(request)
        # The client has gone, or its connection was ended here.
        gone = isinstance(work.exception(), ConnectionResetError | BrokenPipeError)
        return web.Response() if gone else work.result()

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        for work in at_work:
            work.cancel()
        await runner.cleanup()
