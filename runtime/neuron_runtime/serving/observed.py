"""Counts every HTTP request and logs one line for it: no bodies, no headers, so no prompts and no secrets."""

import logging
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics

_log = logging.getLogger(__name__)

_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_ROUTES = _PROBES | {"/v1/chat/completions", "/v1/models"}
_NO_ANSWER = 499


class Observed:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and watch its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _NO_ANSWER
        started = perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            path = scope["path"]
            # Paths are the caller's: as a label, each new one would be a time series.
            self._metrics.requests.labels(path if path in _ROUTES else "other", str(status)).inc()
            level = logging.DEBUG if path in _PROBES else logging.INFO
            _log.log(level, "%s %s %d %.1f ms", scope["method"], path, status, 1000 * (perf_counter() - started))
