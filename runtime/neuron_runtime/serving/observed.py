"""Counts every HTTP request and logs one line for it: no bodies, no headers, so no prompts and no secrets."""

import logging
from collections.abc import Collection
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics

_log = logging.getLogger(__name__)

_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
# nginx's code for a client that closed the connection; nobody receives it, it is for logs and metrics.
CLIENT_CLOSED_REQUEST = 499
_LONGEST_PATH = 200


class Observed:
    """ASGI middleware around the whole application: what answers an unexpected exception is a middleware itself."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        """`paths` are told apart in metrics; all others together are one."""
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and watch its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = CLIENT_CLOSED_REQUEST
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
            self._metrics.requests.labels(path if path in self._paths else "other", str(status)).inc()
            level = logging.DEBUG if path in _PROBES else logging.INFO
            # As it was sent: decoded, it could hold line breaks, and with them lines of log that nobody wrote.
            sent = scope["raw_path"].decode("latin-1")[:_LONGEST_PATH]
            _log.log(level, "%s %s %d %.1f ms", scope["method"], sent, status, 1000 * (perf_counter() - started))
