"""The real kubectl as tests call it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 180


class Kubectl:
    """Runs kubectl as the administrator of one cluster."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self._program = program
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig)}

    def run(self, *arguments: str, document: Any = None) -> subprocess.CompletedProcess[str]:
        """One call, whatever it ends with; a document is handed over as JSON on standard input."""
        return subprocess.run(
            [str(self._program), *arguments],
            input=None if document is None else json.dumps(document),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )

    def __call__(self, *arguments: str, document: Any = None) -> str:
        """The output of a call that must succeed."""
        result = self.run(*arguments, document=document)
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def json(self, *arguments: str, document: Any = None) -> Any:
        """The object that a call that must succeed answers with."""
        return json.loads(self(*arguments, "-o", "json", document=document))
