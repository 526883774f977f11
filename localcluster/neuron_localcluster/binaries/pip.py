"""How pip is called: always that of the running interpreter."""

from __future__ import annotations

import importlib.util
import sys

from neuron_localcluster.errors import BinariesUnavailable


def pip_command() -> list[str]:
    """The start of a pip command line; raises BinariesUnavailable when this environment has no pip."""
    if importlib.util.find_spec("pip") is None:
        raise BinariesUnavailable(f"{sys.prefix} has no pip; add it with: {sys.executable} -m ensurepip")
    return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
