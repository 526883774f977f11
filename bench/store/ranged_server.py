"""A bare HTTP server for the objects of one folder: byte ranges by sendfile, and nothing that S3 does besides.

The least that a server can do, so that what is measured is the client. Given a pace, no connection gets more bytes
per second than that, as with S3.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from http import HTTPStatus
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from time import monotonic, sleep

_STEP = 512 * 1024
_RANGE = re.compile(rb"^range: bytes=(\d+)-(\d*)", re.IGNORECASE)


class _Handler(StreamRequestHandler):
    """Answers GET and HEAD on one connection until the client closes it."""

    server: RangedServer

    def handle(self) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while line := self.rfile.readline():
            method, target, _ = line.split(b" ", 2)
            asked = None
            while (header := self.rfile.readline()).strip():
                asked = _RANGE.match(header) or asked
            self._answer(method, self.server.root / target.partition(b"?")[0].decode().lstrip("/"), asked)

    def _answer(self, method: bytes, path: Path, asked: re.Match[bytes] | None) -> None:
        size = path.stat().st_size
        start = int(asked[1]) if asked else 0
        stop = min(int(asked[2]) + 1, size) if asked and asked[2] else size
        status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: {stop - start}\r\n"
            f"Content-Range: bytes {start}-{stop - 1}/{size}\r\nAccept-Ranges: bytes\r\n"
            'ETag: "one"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n'
        )
        self.connection.sendall(head.encode())
        if method == b"HEAD":
            return
        begun, first = monotonic(), start
        with path.open("rb") as file:
            while start < stop:
                if self.server.pace:
                    sleep(max(0.0, begun + (start - first) / self.server.pace - monotonic()))
                step = min(stop - start, _STEP) if self.server.pace else stop - start
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, step)


class RangedServer(ThreadingTCPServer):
    """Listens on a port of loopback that the system chooses."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, root: Path, pace: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.pace = pace


if __name__ == "__main__":
    with RangedServer(Path(sys.argv[1]), 1e6 * float(sys.argv[2])) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
