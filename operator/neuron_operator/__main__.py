"""`python -m neuron_operator`: run the operator."""

import asyncio
import logging
import os
import sys
from pathlib import Path

from pydantic import ValidationError

from neuron_operator import app
from neuron_operator.settings import load
from neuron_operator.telemetry.logging import configure

SETTINGS_VARIABLE = "NEURON_OPERATOR_SETTINGS"


def main() -> int:
    """Run; returns the exit code."""
    configure()
    path = os.environ.get(SETTINGS_VARIABLE)
    if not path:
        sys.stderr.write(f"{SETTINGS_VARIABLE} is not set; set it to the file with the platform settings\n")
        return 64
    try:
        settings = load(Path(path))
    except (OSError, ValidationError) as error:
        sys.stderr.write(f"the platform settings in {path} cannot be used: {error}\n")
        return 64
    try:
        asyncio.run(app.run(settings))
    except Exception:
        logging.getLogger(__name__).exception("the operator ends")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
