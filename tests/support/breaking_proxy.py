"""A TCP proxy that breaks off chosen answers or holds up requests, as networks do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class BreakingProxy:
    """Forwards connections to an upstream; each of the next `breaks` answers longer than `after` bytes is cut there.

    With `hold_after`, a connection on which more bytes are sent than that gets no further, and `holding` is set; with
    `hold_answers_after`, one on which more are answered.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.connections: list[threading.Thread] = []
        self.breaks = 0
        self.after = 0
        self.broken = 0
        self.hold_after: int | None = None
        self.hold_answers_after: int | None = None
        self.answered = 0
        self.holding = threading.Event()
        self._closed = threading.Event()

    def serve(self) -> None:
        """Accept until closed."""
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._connect, args=(client,), daemon=True)
            self.connections.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop accepting, and wait for the connections that their clients have ended."""
        self._closed.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self.connections:
            thread.join(5)

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            requests = threading.Thread(target=self._forward, args=(client, upstream, False), daemon=True)
            requests.start()
            self._forward(upstream, client, True)
            requests.join()

    def _forward(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if answers and self.breaks > 0 and passed > self.after:
                    self.breaks -= 1
                    self.broken += 1
                    break
                hold_after = self.hold_answers_after if answers else self.hold_after
                if hold_after is not None and passed > hold_after:
                    self.holding.set()
                    self._closed.wait()
                    break
                target.sendall(data)
                self.answered += len(data) if answers else 0
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def breaking_proxy(upstream: int) -> Iterator[BreakingProxy]:
    """Run a proxy before a port of loopback."""
    proxy = BreakingProxy(upstream)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(5)
