"""Answers `GET /progress` of the compile container, from a thread of its own."""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from neuron_runtime.contract.launch import BIND_ADDRESS_VARIABLE
from neuron_runtime.contract.progress import PROGRESS_PORT, Progress, Stage


class Board:
    """The progress as it now stands. Any thread may write and read."""

    def __init__(self) -> None:
        self._progress = Progress(stage=Stage.STARTING)

    def show(self, progress: Progress) -> None:
        """Replace what is shown."""
        self._progress = progress

    def transferred(self, stage: Stage) -> "Transfer":
        """A counter of bytes for a stage of transfer."""
        return Transfer(self, stage)

    @property
    def progress(self) -> Progress:
        """What is shown."""
        return self._progress


class Transfer:
    """Shows bytes done and bytes in all."""

    def __init__(self, board: Board, stage: Stage) -> None:
        self._board = board
        self._stage = stage

    def __call__(self, done: int, total: int) -> None:
        self._board.show(Progress(stage=self._stage, done=max(done, 0), total=total))


@contextmanager
def progress_server(board: Board, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Serve while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/progress", "/healthz"):
                self.send_error(404)
                return
            body = board.progress.to_json().encode() if self.path == "/progress" else b"ok\n"
            self.send_response(200)
            self.send_header("Content-Type", "application/json" if self.path == "/progress" else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Polls are not worth a line."""

    server = _server(environment, Handler)
    thread = threading.Thread(target=server.serve_forever, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _server(environment: Mapping[str, str], handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    address = environment.get(BIND_ADDRESS_VARIABLE) or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True

    return Server((address, PROGRESS_PORT), handler)
