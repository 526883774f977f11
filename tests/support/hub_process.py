"""The hub stand-in as a process of its own, and the digest of what it serves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_localcluster.standins.repository import Repository
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.source import SourceFile, source_digest
from support.addresses import free_port
from support.object_store import end, wait_for_port


@contextmanager
def hub_process(root: Path) -> Iterator[str]:
    """Serve the repositories `root/<owner>/<name>`; yields the endpoint."""
    port = free_port()
    command = [sys.executable, "-m", "neuron_localcluster.standins.hub", f"--root={root}", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def digest_of_repository(repository: Repository) -> Digest:
    """Digest of the repository's files that are taken."""
    return source_digest(
        SourceFile(
            path=file.path,
            size=file.size,
            content_id=f"lfs-sha256:{file.lfs.sha256}" if file.lfs else f"git-blob:{file.blob_id}",
        )
        for file in repository.files.values()
    )
