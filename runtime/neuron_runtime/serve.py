"""Entry point of the serving container: `python -m neuron_runtime.serve`.

Reads its ServingSpec from the environment, answers HTTP at once, loads the artifact that the spec names, serves it.
A failure ends the process with an exit code and a termination message; nothing is ever compiled here.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from neuron_runtime.contract import request
from neuron_runtime.contract.launch import (
    SERVING_PORT,
    SERVING_SPEC_VARIABLE,
    WORK_DIR_VARIABLE,
    ServingSpec,
)
from neuron_runtime.contract.outcome import (
    ContainerFailure,
    ExitCode,
    FailureCode,
)
from neuron_runtime.engines import open_engine
from neuron_runtime.engines.base import Engine
from neuron_runtime.serving.listen import listen
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.server import serve
from neuron_runtime.serving.startup import Startup
from neuron_runtime.serving.state import ServedModel, ServerState
from neuron_runtime.store import open_store
from neuron_runtime.termination import leave_failure

OpenEngine = Callable[[request.Engine], Engine]

_TALKATIVE = ("botocore", "uvicorn")


def read_spec(environment: Mapping[str, str]) -> ServingSpec:
    """The spec in the environment. Raises ContainerFailure(INVALID_SPEC)."""
    try:
        return ServingSpec.model_validate_json(_variable(environment, SERVING_SPEC_VARIABLE))
    except ValidationError as error:
        raise ContainerFailure(FailureCode.INVALID_SPEC, f"{SERVING_SPEC_VARIABLE} cannot be read: {error}") from error


def run(environment: Mapping[str, str], engines: OpenEngine, port: int = SERVING_PORT) -> None:
    """Serve until the process is told to end. Raises ContainerFailure."""
    spec = read_spec(environment)
    work_dir = Path(_variable(environment, WORK_DIR_VARIABLE))
    state, metrics = ServerState(), Metrics()

    def load() -> ServedModel:
        return Startup(spec, open_store(spec.store), engines(spec.engine), work_dir, state, metrics).run()

    failure = asyncio.run(serve(listen(environment, port), load, state, metrics))
    if failure is not None:
        raise failure


def main(engines: OpenEngine = open_engine, port: int = SERVING_PORT) -> NoReturn:
    """Run as the container's process, and end it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        run(os.environ, engines, port)
        code = ExitCode.OK
    except ContainerFailure as failure:
        code = leave_failure(os.environ, failure)
    sys.stdout.flush()
    logging.shutdown()
    # Not sys.exit: that joins threads, and a transfer or a native call of the engine may take its time.
    os._exit(code)


def _variable(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise ContainerFailure(FailureCode.INVALID_SPEC, f"{name} is not set")
    return value


if __name__ == "__main__":
    main()
