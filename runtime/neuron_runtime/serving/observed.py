"""Counts every HTTP request and logs one line for it: no bodies, no headers, so no prompts and no secrets."""

import logging
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics

_log = logging.getLogger(__name__)

_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_ROUTES = _PROBES | {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/tokenize"}
# nginx's code for a client that closed the connection; nobody receives it, it is for logs and metrics.
CLIENT_CLOSED_REQUEST = 499
_LONGEST_PATH = 200


class Observed:
    """ASGI middleware around the whole application: what answers an unexpected exception is a middleware itself."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

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
            # Paths are the caller's: as a label, each new one would be a time series.
            self._metrics.requests.labels(path if path in _ROUTES else "other", str(status)).inc()
            level = logging.DEBUG if path in _PROBES else logging.INFO
            # As it was sent: decoded, it could hold line breaks, and with them lines of log that nobody wrote.
            sent = scope["raw_path"].decode("latin-1")[:_LONGEST_PATH]
            _log.log(level, "%s %s %d %.1f ms", scope["method"], sent, status, 1000 * (perf_counter() - started))
