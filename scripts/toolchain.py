"""What setting up and checking a machine have in common: the Python that the environment is made of, and its stamp.

Standard library only, and Python 3.10 is enough to get to the message that says what is missing.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
ENVIRONMENT_PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / ".neuron-operator.json"
LOCKED = ROOT / "requirements" / "dev.txt"
INSTALLER = ROOT / "requirements" / "uv.txt"
PROJECT = ROOT / "pyproject.toml"

PYTHON_VERSION = (3, 11)
PYTHON_NAME = "python3.11"


def objection_to_place(root: Path = ROOT) -> str | None:
    """Why nothing could be compiled in a clone that lies there."""
    # torch takes the compiler's command line apart at spaces and quotes, and the environment stands on PATH.
    if _words(root) == [str(root)] and ":" not in str(root):
        return None
    return f"{root} has a space, quote, backslash or colon in its name; move the clone to a folder without"


def _words(root: Path) -> list[str]:
    try:
        return shlex.split(str(root))
    except ValueError:
        # An unclosed quote.
        return []


def find_python() -> str | None:
    """Path of a Python 3.11 that runs: the one that runs this, else the one on PATH."""
    if sys.version_info[:2] == PYTHON_VERSION:
        return sys.executable
    found = shutil.which(PYTHON_NAME)
    # Version managers put programs on PATH that only say that they are not installed.
    return found if found is not None and succeeds([found, "--version"]) else None


def can_make_environments(python: str) -> bool:
    """Whether this Python has venv with pip; Debian and Ubuntu ship them in a package of their own."""
    return succeeds([python, "-c", "import ensurepip, venv"])


def succeeds(command: list[str]) -> bool:
    """Whether a command can be run and exits with 0."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def wanted_stamp(torch: str) -> dict[str, str]:
    """What a complete environment was made from."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (LOCKED, INSTALLER, PROJECT)}
    return {**files, "torch": torch, "root": str(ROOT)}


def written_stamp() -> dict[str, str] | None:
    """What the environment says it was made from; None when it was never completed."""
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return stamp
