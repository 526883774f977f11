"""`python -m neuron_operator`: run the operator."""

import asyncio
import logging
import os
from pathlib import Path

from pydantic import ValidationError

from neuron_operator import app
from neuron_operator.kube.definition import NotServed
from neuron_operator.settings import load
from neuron_operator.telemetry.logging import configure

SETTINGS_VARIABLE = "NEURON_OPERATOR_SETTINGS"


def main() -> int:
    """Run; returns the exit code."""
    configure()
    logger = logging.getLogger("neuron_operator")
    path = os.environ.get(SETTINGS_VARIABLE, "")
    try:
        settings = load(Path(path))
    except (OSError, ValidationError) as error:
        logger.critical("%s=%s: the platform settings cannot be used: %s", SETTINGS_VARIABLE, path, error)
        return 64
    try:
        asyncio.run(app.run(settings))
    except* NotServed as error:
        logger.critical("%s", error.exceptions[0])
    except* Exception:
        logger.critical("the operator ends", exc_info=True)
    else:
        return 0
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
