"""Checks whether this machine can run the demo and the tests, and names what to install where it cannot.

Standard library only. Exit code 1 if something required is missing.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolchain import (
    PYTHON_NAME,
    ROOT,
    can_make_environments,
    find_python,
    objection_to_place,
    succeeds,
    written_stamp,
)

_GB = 10**9
_DISK_FRESH_GB = 20
_DISK_SET_UP_GB = 5
_DISK_BUILD_GB = 6
_MEMORY_REQUIRED_GB = 4
_MEMORY_WANTED_GB = 8
_CPU_FLAGS = ("avx2", "fma", "bmi1", "bmi2", "f16c", "movbe")
# Pods and Services of the local cluster have addresses in these networks.
_LOOPBACK_ADDRESSES = ("127.77.0.1", "127.96.0.1")
_TOOLS = {"git": "git", "make": "make", "g++": "g++"}
_SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    subject: str
    fine: bool
    detail: str
    """What is there; or what to do, when the finding is not fine."""
    required: bool = True


def findings() -> Iterator[Finding]:
    """All checks, in the order of their report."""
    yield _processor()
    yield _python()
    yield from map(_tool, _TOOLS)
    yield _place()
    yield _disk()
    yield _memory()
    yield from map(_loopback, _LOOPBACK_ADDRESSES)
    yield _control_plane()


def main() -> int:
    """Print the report; returns the exit code."""
    missing = 0
    for finding in findings():
        mark = "ok" if finding.fine else "MISSING" if finding.required else "note"
        missing += not finding.fine and finding.required
        print(f"{mark:<8} {finding.subject:<24} {finding.detail}")
    if missing:
        print(f"\n{missing} required thing{'s' if missing > 1 else ''} missing; see above for what to install.")
        return 1
    print("\nThis machine can run `make demo` and `make test`.")
    return 0


def _processor() -> Finding:
    subject = "x86-64 Linux, AVX2"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        system = f"{platform.system()} on {platform.machine()}"
        return Finding(subject, False, f"this is {system}; use an x86-64 Linux machine of 2015 or later")
    flags = set(_field("/proc/cpuinfo", "flags").split())
    lacking = [flag for flag in _CPU_FLAGS if flag not in flags]
    if lacking:
        return Finding(subject, False, f"the processor lacks {', '.join(lacking)}; graphs are compiled for x86-64-v3")
    return Finding(subject, True, _field("/proc/cpuinfo", "model name") or "found")


def _python() -> Finding:
    subject = f"{PYTHON_NAME} with venv"
    python = find_python()
    if python is None:
        return Finding(subject, False, f"Debian, Ubuntu: apt install {PYTHON_NAME} {PYTHON_NAME}-venv")
    if not can_make_environments(python):
        return Finding(subject, False, f"{python} has no venv. Debian, Ubuntu: apt install {PYTHON_NAME}-venv")
    return Finding(subject, True, python)


def _tool(name: str) -> Finding:
    path = shutil.which(name)
    if path is None or not succeeds([path, "--version"]):
        return Finding(name, False, f"Debian, Ubuntu: apt install {_TOOLS[name]}")
    return Finding(name, True, path)


def _place() -> Finding:
    objection = objection_to_place()
    return Finding("folder", objection is None, objection or str(ROOT))


def _disk() -> Finding:
    needed = _DISK_FRESH_GB if written_stamp() is None else _DISK_SET_UP_GB
    free = shutil.disk_usage(ROOT).free / _GB
    detail = f"{free:.0f} GB free"
    if free < needed:
        return Finding("disk", False, f"{detail} at {ROOT}; {needed} GB are needed: free some, or clone elsewhere")
    return Finding("disk", True, detail)


def _memory() -> Finding:
    total = int(_field("/proc/meminfo", "MemTotal").removesuffix("kB") or 0) * 1024 / _GB
    detail = f"{total:.1f} GB"
    if total < _MEMORY_REQUIRED_GB:
        return Finding("memory", False, f"{detail}; at least {_MEMORY_REQUIRED_GB} GB are needed: use a larger machine")
    if total < _MEMORY_WANTED_GB:
        return Finding(
            "memory", False, f"{detail}; it will do, but be slow below {_MEMORY_WANTED_GB} GB", required=False
        )
    return Finding("memory", True, detail)


def _loopback(address: str) -> Finding:
    subject = f"loopback {address}"
    with socket.socket() as listener:
        try:
            listener.bind((address, 0))
        except OSError as error:
            return Finding(subject, False, f"{error}; allow all of 127.0.0.0/8 on the interface lo")
    return Finding(subject, True, "can be bound")


def _control_plane() -> Finding:
    subject = "control-plane binaries"
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and _holds_servers(Path(assets)):
        return Finding(subject, True, f"in KUBEBUILDER_ASSETS ({assets})")
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuron-operator" / "controlplane"
    except RuntimeError as error:
        return Finding(subject, False, f"no place to keep them ({error}); set XDG_CACHE_HOME to a folder")
    for folder in sorted(cache.glob("v*")):
        if _holds_servers(folder):
            return Finding(subject, True, f"in {folder}")
    if objection := _objection_to(cache):
        return Finding(subject, False, f"{objection}; set XDG_CACHE_HOME to a folder elsewhere, or make room")
    go = "the Go on PATH" if shutil.which("go") else "Go from PyPI"
    return Finding(
        subject,
        False,
        f"not there yet: the first `make demo` or `make test` downloads them, or builds them with {go} (8 minutes)",
        required=False,
    )


def _objection_to(cache: Path) -> str | None:
    """Why the programs cannot be built there."""
    present = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    if not os.access(present, os.W_OK):
        return f"nothing can be written in {present}"
    free = shutil.disk_usage(present).free / _GB
    if free < _DISK_BUILD_GB:
        return f"{free:.0f} GB free in {present}, to build them takes {_DISK_BUILD_GB} GB"
    return None


def _holds_servers(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in _SERVERS)


def _field(path: str, name: str) -> str:
    """Value of the first `name : value` line of a file in /proc; empty when there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    values = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name)
    return next(values, "")


if __name__ == "__main__":
    sys.exit(main())
