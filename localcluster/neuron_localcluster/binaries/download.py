"""The control plane's programs from where their projects publish them, each checked against its published SHA-256."""

from __future__ import annotations

import hashlib
import tarfile
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from neuron_localcluster.binaries.pins import ETCD_VERSION, KUBERNETES_VERSION
from neuron_localcluster.progress import StageClock

KUBERNETES_SITE = f"https://dl.k8s.io/{KUBERNETES_VERSION}/bin/linux/amd64"
ETCD_SITE = f"https://github.com/etcd-io/etcd/releases/download/v{ETCD_VERSION}"
_ETCD_ARCHIVE = f"etcd-v{ETCD_VERSION}-linux-amd64.tar.gz"
_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_CHUNK = 1 << 20
# Short: without a way out, the build should begin at once.
_TIMEOUT_SECONDS = 5.0


class DownloadFailed(Exception):
    """A site could not be reached, or what it gave is not what it promised."""


def install_servers(
    folder: Path, clock: StageClock, *, kubernetes_site: str = KUBERNETES_SITE, etcd_site: str = ETCD_SITE
) -> None:
    """Write the four servers into the folder; raises DownloadFailed."""
    try:
        for name in _PROGRAMS:
            expected = _read_text(f"{kubernetes_site}/{name}.sha256").split()[0]
            _fetch(f"{kubernetes_site}/{name}", folder / name, expected, clock)
        archive = folder / _ETCD_ARCHIVE
        _fetch(f"{etcd_site}/{_ETCD_ARCHIVE}", archive, _etcd_digest(_read_text(f"{etcd_site}/SHA256SUMS")), clock)
    except (OSError, HTTPException, ValueError, IndexError) as error:
        # Proxies break off, and answer with pages of their own.
        raise DownloadFailed(f"{type(error).__name__}: {error}") from error
    _unpack_etcd(archive, folder)
    archive.unlink()
    for name in (*_PROGRAMS, "etcd"):
        (folder / name).chmod(0o755)


def _etcd_digest(sums: str) -> str:
    for line in sums.splitlines():
        digest, _, name = line.partition("  ")
        if name.strip() == _ETCD_ARCHIVE:
            return digest
    raise DownloadFailed(f"SHA256SUMS of etcd {ETCD_VERSION} does not name {_ETCD_ARCHIVE}")


def _fetch(url: str, target: Path, expected: str, clock: StageClock) -> None:
    digest = hashlib.sha256()
    with _open(url) as response, target.open("wb") as file:
        total = int(response.headers.get("Content-Length", 0))
        done = 0
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            clock.update(f"downloading {target.name}", done / total if total else None)
    if digest.hexdigest() != expected:
        raise DownloadFailed(f"{url} has SHA-256 {digest.hexdigest()}, published is {expected}")


def _unpack_etcd(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{_ETCD_ARCHIVE.removesuffix('.tar.gz')}/etcd")
        if member is None:
            raise DownloadFailed(f"{archive.name} holds no etcd")
        (folder / "etcd").write_bytes(member.read())


def _read_text(url: str) -> str:
    with _open(url) as response:
        return response.read().decode("utf-8")


def _open(url: str) -> HTTPResponse:
    response: HTTPResponse = urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS)  # noqa: S310 - constants above
    return response
