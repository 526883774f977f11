"""A proxy before an S3 endpoint, which breaks what a schedule says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from faults.connection import Answer, cut, forwarded, listening, reset
from faults.schedule import Schedule

READ_FAULTS = ("SlowDown", "InternalError", "reset", "cut", "wrong bytes", "AccessDenied")
MISSING_FAULTS = ("SlowDown", "InternalError", "reset", "AccessDenied")
WRITE_FAULTS = ("SlowDown", "InternalError", "reset before", "reset after", "AccessDenied")
CONDITIONAL_FAULTS = (*WRITE_FAULTS, "ConditionalRequestConflict", "PreconditionFailed after")

_STATUS = {
    "SlowDown": 503,
    "InternalError": 500,
    "AccessDenied": 403,
    "ConditionalRequestConflict": 409,
    "PreconditionFailed": 412,
}


class S3Proxy:
    """Where S3 answers, as those see it who come this way."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession, schedule: Schedule) -> None:
        self._upstream = upstream
        self._session = session
        self._schedule = schedule
        self.endpoint = ""

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await request.read()
        if request.method in ("GET", "HEAD"):
            return await self._read(request, body)
        return await self._write(request, body)

    async def _read(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        answer = await self._forward(request, body)
        missing = answer.status == 404
        name = request.path.rpartition("/")[2]
        fault = self._schedule.draw(f"s3 get {name}", MISSING_FAULTS if missing else READ_FAULTS)
        if fault in _STATUS:
            return _refusal(fault)
        if fault == "reset":
            return reset(request)
        if fault == "cut":
            return await cut(request, answer)
        if fault == "wrong bytes" and answer.body:
            damaged = bytearray(answer.body)
            damaged[len(damaged) // 2] ^= 0x01
            return Answer(answer.status, answer.headers, bytes(damaged)).response()
        return answer.response()

    async def _write(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        conditional = "If-None-Match" in request.headers
        verb = "commit" if conditional else request.method.lower()
        fault = self._schedule.draw(
            f"s3 {verb} {request.path.rpartition('/')[2]}", CONDITIONAL_FAULTS if conditional else WRITE_FAULTS
        )
        if fault in _STATUS:
            return _refusal(fault)
        if fault == "reset before":
            return reset(request)
        answer = await self._forward(request, body)
        if fault == "reset after":
            return reset(request)
        # As when the answer was lost on the way, and the client's library sent the same request again by itself.
        return _refusal("PreconditionFailed") if fault == "PreconditionFailed after" else answer.response()

    async def _forward(self, request: web.BaseRequest, body: bytes) -> Answer:
        headers = forwarded(request) | {"Accept-Encoding": "identity"}
        async with self._session.request(
            request.method, f"{self._upstream}{request.raw_path}", data=body, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, forwarded(dict(response.headers)), await response.read())


@asynccontextmanager
async def s3_proxy(upstream: str, session: aiohttp.ClientSession, schedule: Schedule) -> AsyncIterator[S3Proxy]:
    """Answer on loopback at `endpoint`."""
    proxy = S3Proxy(upstream, session, schedule)
    async with listening(proxy._handle) as port:
        proxy.endpoint = f"http://127.0.0.1:{port}"
        yield proxy


def _refusal(code: str) -> web.Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>injected</Message></Error>'
    return web.Response(status=_STATUS[code], body=body.encode(), content_type="application/xml")
