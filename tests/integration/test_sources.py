"""Sources from a hub over real HTTP: what arrives is what was resolved, and every refusal has its name.

Each fetch runs in a process of its own, since huggingface_hub reads `HF_ENDPOINT` when it is imported.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster.standins.repository import Repositories, Repository
from neuron_runtime.contract.origin import HuggingFaceOrigin
from neuron_runtime.contract.outcome import FailureCode
from neuron_runtime.contract.source import SourceFile, SourceManifest, source_digest
from support.addresses import free_port
from support.hub_process import digest_of_repository, hub_process
from support.source_process import copy_source

_NO_DIGEST = "sha256:" + 64 * "0"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A small model on a hub, beside files that are not taken."""
    folder = tmp_path / "hub" / "team" / "tiny"
    (folder / "onnx").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "merges.txt").write_text("a b\n")
    (folder / "model.safetensors").write_bytes(os.urandom(3_000_000))
    (folder / "README.md").write_text("about")
    (folder / "onnx" / "model.onnx").write_bytes(b"other")
    found = Repositories(tmp_path / "hub").find("team", "tiny")
    assert found is not None
    return found


@pytest.fixture
def hub(repository: Repository, tmp_path: Path) -> Iterator[str]:
    with hub_process(tmp_path / "hub") as endpoint:
        yield endpoint


def _fetch(endpoint: str, repo: str, commit: str, digest: str, folder: Path, **options: Any) -> dict[str, Any]:
    origin = HuggingFaceOrigin(repo=repo, commit=commit).to_document()
    return copy_source(origin, digest, folder, {"HF_ENDPOINT": endpoint}, **options)


@contextmanager
def _serving(server: HTTPServer) -> Iterator[str]:
    """Answer until the context ends, also when it fails: a server that goes on would keep the whole run from ending."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_snapshot_arrives_and_is_described(hub: str, repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    answer = _fetch(hub, "team/tiny", repository.commit, digest_of_repository(repository), folder)
    manifest = SourceManifest.model_validate(answer["manifest"])
    assert [file.path for file in manifest.files] == ["config.json", "merges.txt", "model.safetensors"]
    assert (manifest.repo, manifest.commit, manifest.digest) == (
        "team/tiny",
        repository.commit,
        digest_of_repository(repository),
    )
    assert sorted(file.name for file in folder.iterdir()) == [file.path for file in manifest.files]
    for file in manifest.files:
        assert (folder / file.path).read_bytes() == (repository.folder / file.path).read_bytes()
    total = sum(file.size for file in manifest.files)
    assert answer["last"] == [total, total]
    assert not answer["torch"]


def test_files_that_are_wrong_are_fetched_again(hub: str, repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    _fetch(hub, "team/tiny", repository.commit, digest_of_repository(repository), folder)
    (folder / "config.json").write_text('{"model_type": "LLAMA"}')
    kept = (folder / "model.safetensors").stat().st_mtime_ns
    answer = _fetch(hub, "team/tiny", repository.commit, digest_of_repository(repository), folder)
    assert "manifest" in answer
    assert (folder / "config.json").read_text() == '{"model_type": "llama"}'
    assert (folder / "model.safetensors").stat().st_mtime_ns == kept


def test_another_digest_than_resolved(hub: str, repository: Repository, tmp_path: Path) -> None:
    answer = _fetch(hub, "team/tiny", repository.commit, _NO_DIGEST, tmp_path / "source")
    assert answer["code"] == FailureCode.SOURCE_CHANGED.value
    assert f"team/tiny@{repository.commit}" in answer["message"]
    assert digest_of_repository(repository) in answer["message"]


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_content_that_is_not_what_the_hub_listed(hub: str, repository: Repository, tmp_path: Path, path: str) -> None:
    file = repository.folder / path
    before = file.stat()
    changed = bytearray(file.read_bytes())
    changed[3] ^= 1
    file.write_bytes(changed)
    # The stand-in knows the file's hashes by its size and time, so it goes on to list the old ones.
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    answer = _fetch(hub, "team/tiny", repository.commit, digest_of_repository(repository), tmp_path / "source")
    assert answer["code"] == FailureCode.SOURCE_CHANGED.value
    assert path in answer["message"]
    assert not (tmp_path / "source" / path).exists()


@pytest.mark.parametrize(("repo", "known_commit"), [("team/none", True), ("team/tiny", False)])
def test_what_does_not_exist(hub: str, repository: Repository, tmp_path: Path, repo: str, known_commit: bool) -> None:
    commit = repository.commit if known_commit else 40 * "0"
    answer = _fetch(hub, repo, commit, _NO_DIGEST, tmp_path / "source")
    assert answer["code"] == FailureCode.SOURCE_NOT_FOUND.value
    assert repo in answer["message"] and commit in answer["message"]
    field = "spec.model.huggingFace.repo" if known_commit else "spec.model.huggingFace.revision"
    assert field in answer["message"]


def test_a_hub_that_does_not_answer(tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    answer = _fetch(endpoint, "team/tiny", 40 * "0", _NO_DIGEST, tmp_path / "source")
    assert answer["code"] == FailureCode.SOURCE_UNREACHABLE.value
    assert endpoint in answer["message"]


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (403, "GatedRepo", FailureCode.SOURCE_ACCESS_DENIED),
        (403, "", FailureCode.SOURCE_ACCESS_DENIED),
        (503, "", FailureCode.SOURCE_UNREACHABLE),
    ],
)
def test_refusals(tmp_path: Path, status: int, reason: str, code: FailureCode) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", reason)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with _serving(HTTPServer(("127.0.0.1", 0), Refusing)) as endpoint:
        answer = _fetch(endpoint, "a/b", 40 * "0", _NO_DIGEST, tmp_path / "source")
    assert answer["code"] == code.value


def test_an_error_of_this_machine_is_not_blamed_on_the_hub(hub: str, repository: Repository, tmp_path: Path) -> None:
    digest, folder = digest_of_repository(repository), tmp_path / "source"
    answer = _fetch(hub, "team/tiny", repository.commit, digest, folder, largest_file=1_000_000)
    assert answer["errno"] == errno.EFBIG


@pytest.mark.parametrize("breaks_off", [False, True])
def test_signed_addresses_are_not_told(tmp_path: Path, breaks_off: bool) -> None:
    secret = "X-Amz-Signature=5ec7e7"
    file = SourceFile(path="model.safetensors", size=5000, content_id=f"lfs-sha256:{64 * '1'}")

    class Delivering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/api/"):
                large = {"sha256": 64 * "1", "size": file.size, "pointerSize": 134}
                sibling = {"rfilename": file.path, "size": file.size, "blobId": 40 * "b", "lfs": large}
                self._answer(200, json.dumps({"id": "a/b", "sha": 40 * "0", "siblings": [sibling]}).encode())
            elif "/resolve/" in self.path:
                port = self.server.server_address[1]
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.2:{port}/delivery?{secret}")
                self.send_header("X-Repo-Commit", 40 * "0")
                self.send_header("X-Linked-Etag", 64 * "1")
                self.send_header("X-Linked-Size", str(file.size))
                self._answer(None, b"")
            elif breaks_off:
                self.send_response(200)
                self.send_header("Content-Length", str(file.size))
                self.end_headers()
                self.wfile.write(b"not all of it")
                self.close_connection = True
            else:
                self._answer(500, b"")

        do_HEAD = do_GET

        def _answer(self, status: int | None, body: bytes) -> None:
            if status is not None:
                self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    with _serving(ThreadingHTTPServer(("", 0), Delivering)) as endpoint:
        answer = _fetch(endpoint, "a/b", 40 * "0", source_digest([file]), tmp_path / "source")
    assert answer["code"] == FailureCode.SOURCE_UNREACHABLE.value
    assert "/delivery" in answer["message"] + answer["log"]
    assert secret not in answer["message"] + answer["log"]
