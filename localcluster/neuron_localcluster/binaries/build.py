"""The control plane's programs, built from the upstream Go modules that `controlplane/go.mod` pins.

About 8 minutes on 2 cores with empty caches, 2 GB of memory and 5 GB of disk.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from neuron_localcluster.binaries import cache, pins
from neuron_localcluster.binaries.toolchain import Go, ensure_go
from neuron_localcluster.errors import BinariesUnavailable, StageFailed, tail
from neuron_localcluster.progress import StageClock

_MODULE = Path(__file__).parents[2] / "controlplane"
_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
}
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_STAGE = "building the control plane"
_FREE_BYTES = 6 * 1024**3
_REPORT_SECONDS = 1.0


def install_servers(folder: Path, clock: StageClock) -> None:
    """Build the four servers into the folder; raises BinariesUnavailable or StageFailed, which names the log."""
    if not (_MODULE / "go.mod").exists():
        raise BinariesUnavailable(f"{_MODULE}/go.mod is missing: the control plane can be built from a checkout only")
    home = cache.cache_folder()
    if shutil.disk_usage(home).free < _FREE_BYTES:
        raise BinariesUnavailable(f"building the control plane needs 6 GB of disk; make room where {home} lies")
    go = ensure_go(clock)
    log = home / "logs" / "controlplane-build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"{go.command} ({go.version})\n", encoding="utf-8")
    total = _download_modules(go, log, clock)
    _compile(go, folder, total, log, clock)
    # The last element of a package's path names its program, a major version apart.
    (folder / "server").rename(folder / "etcd")
    for scratch in go.scratch:
        shutil.rmtree(scratch, ignore_errors=True)


def linker_flags() -> str:
    """Without the version, the API server cannot tell a client which Kubernetes it is."""
    major, minor, _ = pins.KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {
        "gitVersion": pins.KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "buildDate": "2026-01-01T00:00:00Z",
    }
    settings = [f"-X {package}.{key}={value}" for package in _VERSION_PACKAGES for key, value in values.items()]
    return " ".join(["-s", "-w", *settings])


def _download_modules(go: Go, log: Path, clock: StageClock) -> int:
    """Returns how many packages the programs consist of, which only the modules' sources can tell."""
    packages = 0
    downloads = 0

    def count(line: str) -> None:
        nonlocal packages, downloads
        if line.startswith("go: downloading"):
            downloads += 1
            clock.update(f"downloading Go modules ({downloads})")
        else:
            packages += 1

    clock.update("resolving Go modules")
    _run(go, ["list", "-mod=readonly", "-deps", *_PACKAGES.values()], log, count)
    return packages


def _compile(go: Go, folder: Path, total: int, log: Path, clock: StageClock) -> None:
    compiled = 0
    reported = 0.0

    def count(line: str) -> None:
        nonlocal compiled, reported
        if not is_package(line):
            return
        compiled += 1
        if time.monotonic() - reported >= _REPORT_SECONDS:
            reported = time.monotonic()
            clock.update(f"compiling with {go.version}: {compiled} of {total} packages", compiled / total)

    clock.update(f"compiling with {go.version}")
    arguments = ["build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", linker_flags()]
    _run(go, [*arguments, "-o", f"{folder}/", *_PACKAGES.values()], log, count)


def is_package(line: str) -> bool:
    """Whether a line of `go build -v` names a package that is being compiled; errors and notes have spaces."""
    return re.fullmatch(r"[\w.~/-]+\s*", line) is not None


def _run(go: Go, arguments: list[str], log: Path, on_line: Callable[[str], None]) -> None:
    command = [str(go.command), *arguments]
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            cwd=_MODULE,
            env=dict(go.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        file.write(f"$ {' '.join(command)}\n")
        for line in process.stdout or ():
            file.write(line)
            on_line(line)
    if process.returncode:
        raise StageFailed(_STAGE, _reason(process.returncode, tail(log)), log)


def _reason(code: int, last_lines: list[str]) -> str:
    text = "\n".join(last_lines)
    if "signal: killed" in text:
        return "a compiler was killed, most likely for lack of memory: 2 GB must be free"
    if "no space left on device" in text:
        return "the disk is full: about 5 GB are needed"
    if "dial tcp" in text or "proxyconnect" in text:
        return "the Go modules could not be downloaded: check the network, or GOPROXY"
    return f"go ended with exit code {code}"
