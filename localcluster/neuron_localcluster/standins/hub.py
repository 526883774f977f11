"""A Hugging Face hub for anonymous readers of public models: metadata by revision, file trees and `resolve` downloads.

It answers as the public hub does, down to the codes of its refusals. As there, large files come by a redirect to a
content delivery host, here a second loopback address with the same port: readers that do not follow fail here too.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from neuron_localcluster.standins.repository import Repositories, Repository, RepositoryFile

ADDRESS = "127.0.0.1"
DELIVERY_ADDRESS = "127.0.0.2"
_MODEL = "/api/models/{organization}/{name}"
_FILE = "{revision}/{path:path}"


def application(root: Path) -> Starlette:
    """The hub that serves the repositories below `root`."""
    hub = _Hub(Repositories(root))
    # Plain functions, which Starlette runs in threads: hashing a model takes seconds.
    return Starlette(
        routes=[
            Route(_MODEL, hub.model),
            Route(f"{_MODEL}/revision/{{revision:path}}", hub.model),
            Route(f"{_MODEL}/tree/{{revision}}", hub.tree),
            Route(f"{_MODEL}/tree/{_FILE}", hub.tree),
            Route(f"/{{organization}}/{{name}}/resolve/{_FILE}", hub.resolve),
            Route(f"/delivery/{{organization}}/{{name}}/{_FILE}", hub.deliver),
        ],
        exception_handlers={HTTPException: _refusal},
    )


class _Hub:
    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories

    def model(self, request: Request) -> Response:
        repository = self._repository(request)
        with_contents = request.query_params.get("blobs", "").lower() in ("true", "1")
        siblings = [_sibling(file, with_contents) for file in repository.files.values()]
        return JSONResponse(
            {
                "_id": repository.commit[:24],
                "id": repository.name,
                "modelId": repository.name,
                "author": repository.name.partition("/")[0],
                "sha": repository.commit,
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": [],
                "siblings": siblings,
            }
        )

    def tree(self, request: Request) -> Response:
        repository = self._repository(request)
        below = request.path_params.get("path", "").strip("/")
        prefix = f"{below}/" if below else ""
        recursive = request.query_params.get("recursive", "").lower() in ("true", "1")
        found = [file for path, file in repository.files.items() if path.startswith(prefix)]
        if below and not found:
            raise _entry_not_found(repository, below)
        listed = [file for file in found if recursive or "/" not in file.path.removeprefix(prefix)]
        return JSONResponse([_tree_entry(file) for file in listed])

    def resolve(self, request: Request) -> Response:
        repository, file = self._file(request)
        headers = {"X-Repo-Commit": repository.commit}
        if file.lfs is None:
            return _content(repository, file, headers)
        headers |= {"X-Linked-Etag": f'"{file.lfs.sha256}"', "X-Linked-Size": str(file.size)}
        target = f"/delivery/{repository.name}/{repository.commit}/{quote(file.path)}"
        return RedirectResponse(
            f"http://{DELIVERY_ADDRESS}:{request.url.port}{target}", status_code=HTTPStatus.FOUND, headers=headers
        )

    def deliver(self, request: Request) -> Response:
        return _content(*self._file(request), {})

    def _repository(self, request: Request) -> Repository:
        """The repository at the revision in the path, `main` if there is none."""
        repository = self._repositories.find(request.path_params["organization"], request.path_params["name"])
        if repository is None:
            # To anonymous readers the hub does not tell a missing repository from a private one.
            raise _problem(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Invalid username or password.")
        revision = request.path_params.get("revision", "main")
        if not repository.has_revision(revision):
            raise _problem(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository

    def _file(self, request: Request) -> tuple[Repository, RepositoryFile]:
        repository = self._repository(request)
        file = repository.files.get(request.path_params["path"])
        if file is None:
            raise _entry_not_found(repository, request.path_params["path"])
        return repository, file


def _sibling(file: RepositoryFile, with_contents: bool) -> dict[str, object]:
    if not with_contents:
        return {"rfilename": file.path}
    sibling: dict[str, object] = {"rfilename": file.path, "size": file.size, "blobId": file.blob_id}
    if file.lfs:
        sibling["lfs"] = {"sha256": file.lfs.sha256, "size": file.size, "pointerSize": file.lfs.pointer_size}
    return sibling


def _tree_entry(file: RepositoryFile) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": file.path, "size": file.size, "oid": file.blob_id}
    if file.lfs:
        entry["lfs"] = {"oid": file.lfs.sha256, "size": file.size, "pointerSize": file.lfs.pointer_size}
    return entry


def _content(repository: Repository, file: RepositoryFile, headers: Mapping[str, str]) -> Response:
    return FileResponse(
        repository.folder / file.path,
        headers={**headers, "ETag": f'"{file.etag}"'},
        filename=Path(file.path).name,
        content_disposition_type="inline",
    )


def _entry_not_found(repository: Repository, path: str) -> HTTPException:
    problem = _problem(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
    return HTTPException(
        problem.status_code, problem.detail, {**(problem.headers or {}), "X-Repo-Commit": repository.commit}
    )


def _problem(status: HTTPStatus, code: str, message: str) -> HTTPException:
    return HTTPException(status, message, {"X-Error-Code": code, "X-Error-Message": message})


def _refusal(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal ends it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="neuron_localcluster.standins.hub", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="holds {organization}/{name}/...")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    listeners = [_listen(address, options.port) for address in (ADDRESS, DELIVERY_ADDRESS)]
    server = uvicorn.Server(uvicorn.Config(application(options.root), log_level="info"))
    server.run(sockets=listeners)
    return 0


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    return listener


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
