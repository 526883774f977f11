"""Makes the development environment `.venv` from the locked requirements. A second run with nothing new is instant.

Standard library only. torch stands apart from the hashed files: which build of it is right depends on the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable

from toolchain import (
    ENVIRONMENT,
    ENVIRONMENT_PYTHON,
    INSTALLER,
    LOCKED,
    PROJECT,
    PYTHON_NAME,
    ROOT,
    STAMP,
    can_make_environments,
    find_python,
    objection_to_place,
    succeeds,
    wanted_stamp,
    written_stamp,
)

_BEGAN = time.monotonic()
_LOCK = ROOT / ".cache" / "environment.lock"
_UV = ENVIRONMENT / "bin" / "uv"
# uv by itself trusts only the certificates that it brings, and so no proxy of a company; pip trusts the system's.
_TRUSTING_AS_PIP = {"UV_SYSTEM_CERTS": "true"}


class SetupError(Exception):
    """Setting up cannot go on. The message says what to do."""


def main() -> int:
    """Bring the environment up to date; returns the exit code."""
    _LOCK.parent.mkdir(exist_ok=True)
    with _LOCK.open("w") as lock:
        # Two makes at once are common (a demo and the tests), and would install over each other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _set_up()
        except SetupError as error:
            print(f"environment: {error}", file=sys.stderr)
            return 1


def _set_up() -> int:
    if objection := objection_to_place():
        raise SetupError(objection)
    torch = _torch_requirement()
    stamp = wanted_stamp(torch)
    if ENVIRONMENT_PYTHON.exists() and written_stamp() == stamp:
        _say(".venv is up to date")
        return 0
    STAMP.unlink(missing_ok=True)
    _stage("Python environment", _make_environment)
    _stage("uv", _install_uv)
    _stage("locked requirements", _install_requirements)
    _stage(torch, lambda: _install_torch(torch))
    _stage("neuron-operator itself", _install_project)
    STAMP.write_text(json.dumps(stamp, indent=2) + "\n")
    _say(".venv is ready")
    return 0


def _make_environment() -> str:
    if succeeds([str(ENVIRONMENT_PYTHON), "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"]):
        return "kept"
    python = find_python()
    if python is None:
        raise SetupError(
            f"{PYTHON_NAME} is needed and is not on PATH. Debian, Ubuntu: apt install {PYTHON_NAME} {PYTHON_NAME}-venv"
        )
    if not can_make_environments(python):
        raise SetupError(f"{python} has no venv module. Debian, Ubuntu: apt install {PYTHON_NAME}-venv")
    _run([python, "-m", "venv", "--clear", str(ENVIRONMENT)])
    return f"made with {python}"


def _install_uv() -> str:
    pip = [str(ENVIRONMENT_PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "install", "--require-hashes", "-r", str(INSTALLER)])
    return "installed"


def _install_requirements() -> str:
    _uv_install(["--require-hashes", "-r", str(LOCKED)])
    return f"installed from {LOCKED.relative_to(ROOT)}"


def _install_torch(requirement: str) -> str:
    """Prefer the build for CPUs: it has the same kernels, and is 15 times smaller than the one with CUDA."""
    installed = _installed_torch()
    if installed.split("+")[0] == requirement.split("==")[1]:
        return f"kept build {installed}"
    # The versions of what torch needs are those of the locked file where it names them.
    arguments = ["-c", str(LOCKED), requirement]
    impatient = {"UV_HTTP_TIMEOUT": "15", "UV_HTTP_RETRIES": "0"}
    command = _uv_command(["--torch-backend", "cpu", "--dry-run", *arguments])
    environment = _TRUSTING_AS_PIP | os.environ | impatient
    if subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0:
        _uv_install(["--torch-backend", "cpu", *arguments])
        return f"installed the CPU build {_installed_torch()}"
    _say("torch's index of CPU builds is out of reach; taking PyPI's build, which brings CUDA (about 3 GB)")
    _uv_install(arguments)
    return f"installed PyPI's build {_installed_torch()} (with CUDA, which stays unused)"


def _installed_torch() -> str:
    """Version with the build's name; empty when torch is not there."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    result = subprocess.run([str(ENVIRONMENT_PYTHON), "-c", code], capture_output=True, text=True, check=False)
    return result.stdout.strip()


def _install_project() -> str:
    # hatchling is among the locked requirements, so the build needs nothing from an index.
    _uv_install(["--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    return "installed, editable"


def _torch_requirement() -> str:
    # tomllib came with Python 3.11, and this must run on 3.10 until it has found a 3.11.
    found = re.search(r'"(torch==[0-9.]+)"', PROJECT.read_text())
    if found is None:
        raise SetupError(f"{PROJECT} does not pin torch in the extra `cpu`")
    return found[1]


def _uv_install(arguments: list[str]) -> None:
    _run(_uv_command(arguments))


def _uv_command(arguments: list[str]) -> list[str]:
    return [str(_UV), "pip", "install", "--python", str(ENVIRONMENT_PYTHON), *arguments]


def _run(command: list[str]) -> None:
    """Run a command with its output shown: downloads show their own progress."""
    if subprocess.run(command, cwd=ROOT, env=_TRUSTING_AS_PIP | os.environ, check=False).returncode != 0:
        raise SetupError(f"this command failed: {' '.join(command)}")


def _stage(name: str, run: Callable[[], str]) -> None:
    _say(f"{name} ...")
    began = time.monotonic()
    outcome = run()
    _say(f"{name}: {outcome} ({time.monotonic() - began:.1f} s)")


def _say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
