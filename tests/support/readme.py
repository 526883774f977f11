"""The README's lines for a shell, run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

_README = Path(__file__).parents[2] / "README.md"
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ADDRESS = "http://ADDRESS:8080/v1"


def curl(path: str, base_url: str, model: str) -> Any:
    """What the README's request to a path of the API answers; it is sent to this endpoint, and asks for this model."""
    commands = [block for block in _CONSOLE.findall(_README.read_text("utf-8")) if f"{_ADDRESS}{path} " in block]
    assert len(commands) == 1, f"the README has {len(commands)} requests to {path}"
    command = commands[0].replace(_ADDRESS, base_url)
    command, named = re.subn(r'"model": "[^"]+"', f'"model": "{model}"', command)
    assert named == 1, command
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
