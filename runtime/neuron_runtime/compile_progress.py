"""Answers `GET /progress` and `GET /healthz` of the compile container. It decides nothing."""

import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from neuron_runtime.contract.progress import Progress, Stage
from neuron_runtime.listen import listen


class ProgressBoard:
    """The current progress. One thread writes, the server's threads read."""

    def __init__(self) -> None:
        self._current = Progress(stage=Stage.STARTING)

    @property
    def current(self) -> Progress:
        """What was posted last."""
        return self._current

    def post(self, progress: Progress) -> None:
        """Show this from now on."""
        self._current = progress


class ProgressServer:
    """Listens from construction to `close`. Raises ContainerFailure(INTERNAL) when the address cannot be taken."""

    def __init__(self, environment: Mapping[str, str], port: int, board: ProgressBoard) -> None:
        self._server = _Server(listen(environment, port), _handler(board))
        self._thread = threading.Thread(target=self._server.serve_forever, name="progress", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port, which the system chose when 0 was asked for."""
        port: int = self._server.server_address[1]
        return port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def __init__(self, listener: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


def _handler(board: ProgressBoard) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(200, "{}")
            elif self.path == "/progress":
                self._answer(200, board.current.to_json())
            else:
                self._answer(404, '{"error":"there are /progress and /healthz"}')

        def _answer(self, status: int, document: str) -> None:
            body = document.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the operator asks every few seconds."""

    return Handler
