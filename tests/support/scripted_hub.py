"""A hub whose every answer a test decides: what it asks of a reader, what it refuses, what it notes of requests.

The stand-in of the local cluster is a hub that behaves; this one need not.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from neuron_runtime.contract.source import SourceFile

DELIVERY_HOST = "127.0.0.2"
COMMIT = 40 * "c"


@dataclass(frozen=True)
class Refusal:
    """An answer that is none."""

    status: int
    code: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What was asked."""

    host: str
    path: str
    authorization: str | None


class ScriptedHub:
    """One repository, `team/model`, whose weights come from another host."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.refusals: list[Refusal] = []
        """Each is the answer to one request; then it answers well."""
        self.refuse_always: Refusal | None = None
        self.refuse_files: Refusal | None = None
        """Takes the place of files while the listing is open to all, as of a gated repository."""
        self.token: str | None = None
        """What a reader has to bring."""
        self.requests: list[Request] = []
        self.listing: object = None
        """Takes the place of the listing."""
        self.endpoint = ""

    def source_files(self) -> tuple[SourceFile, ...]:
        """The listing, as a reader understands it."""
        return tuple(
            SourceFile(path=path, size=len(body), content_id=_content_id(path, body))
            for path, body in self.files.items()
        )

    def info(self) -> object:
        """The listing, as it is told."""
        if self.listing is not None:
            return self.listing
        return {"id": "team/model", "sha": COMMIT, "siblings": [_sibling(p, body) for p, body in self.files.items()]}


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def _content_id(path: str, body: bytes) -> str:
    if _is_large(path):
        return f"lfs-sha256:{hashlib.sha256(body).hexdigest()}"
    return f"git-blob:{hashlib.sha1(b'blob %d' % len(body) + bytes(1) + body, usedforsecurity=False).hexdigest()}"


def _sibling(path: str, body: bytes) -> dict[str, object]:
    identity = _content_id(path, body).partition(":")[2]
    if not _is_large(path):
        return {"rfilename": path, "size": len(body), "blobId": identity}
    large = {"sha256": identity, "size": len(body), "pointerSize": 134}
    return {"rfilename": path, "size": len(body), "blobId": 40 * "b", "lfs": large}


def _handler(hub: ScriptedHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            host = self.headers["Host"].partition(":")[0]
            # A client that takes us for its proxy asks for the whole address.
            self.path = self.path.removeprefix(f"http://{self.headers['Host']}")
            hub.requests.append(Request(host, self.path, self.headers["Authorization"]))
            if host == DELIVERY_HOST:
                self._answer(200, hub.files[self.path.rpartition("/")[2]], {})
                return
            refusal = hub.refusals.pop(0) if hub.refusals else hub.refuse_always or self._refusal()
            if refusal is not None:
                named = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
                headers = {name: value for name, value in named.items() if value} | dict(refusal.headers)
                self._answer(refusal.status, json.dumps({"error": refusal.message}).encode(), headers)
            elif self.path.startswith("/api/"):
                self._answer(200, json.dumps(hub.info()).encode(), {"Content-Type": "application/json"})
            else:
                self._resolve(self.path.rpartition("/")[2])

        do_HEAD = do_GET

        def _refusal(self) -> Refusal | None:
            if hub.token is not None and self.headers["Authorization"] != f"Bearer {hub.token}":
                return Refusal(401, "RepoNotFound", "Invalid username or password.")
            return hub.refuse_files if "/resolve/" in self.path else None

        def _resolve(self, name: str) -> None:
            body = hub.files[name]
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_content_id(name, body).partition(":")[2]}"'}
            if not _is_large(name):
                self._answer(200, body, headers)
                return
            linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(body))}
            location = hub.endpoint.replace("127.0.0.1", DELIVERY_HOST)
            self._answer(302, b"", headers | linked | {"Location": f"{location}/store/{name}"})

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    return Handler


@contextmanager
def scripted_hub(files: Mapping[str, bytes], tls: ssl.SSLContext | None = None) -> Iterator[ScriptedHub]:
    """Serve it on loopback until the context ends; by TLS with such a context."""
    hub = ScriptedHub(files)
    server = ThreadingHTTPServer(("", 0), _handler(hub))
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    hub.endpoint = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
