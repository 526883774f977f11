"""The server's app behind a real socket, in the test's own process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from neuron_runtime.serving.app import build_app
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.state import ServerState

_WAIT = 60.0


@contextmanager
def listening(state: ServerState, metrics: Metrics) -> Iterator[str]:
    """Serve; yields where."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(build_app(state, metrics), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        http = uvicorn.Server(config)
        thread = threading.Thread(target=http.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            http.should_exit = True
            thread.join(_WAIT)
