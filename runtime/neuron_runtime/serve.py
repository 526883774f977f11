"""Entry point of the serving container: `python -m neuron_runtime.serve`.

Reads its ServingSpec from the environment, answers HTTP at once, loads the artifact that the spec names, serves it.
A failure ends the process with an exit code and a termination message; nothing is ever compiled here.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from neuron_runtime.container import OpenEngine, read_spec, run_as_container, variable
from neuron_runtime.contract.launch import (
    SERVING_PORT,
    SERVING_SPEC_VARIABLE,
    WORK_DIR_VARIABLE,
    ServingSpec,
)
from neuron_runtime.engines import open_engine
from neuron_runtime.listen import listen
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.server import serve
from neuron_runtime.serving.startup import Startup
from neuron_runtime.serving.state import Served, ServerState
from neuron_runtime.store import open_store

_TALKATIVE = ("botocore", "uvicorn")


def run(environment: Mapping[str, str], engines: OpenEngine, port: int = SERVING_PORT) -> None:
    """Serve until the process is told to end. Raises ContainerFailure."""
    spec = read_spec(environment, SERVING_SPEC_VARIABLE, ServingSpec)
    work_dir = Path(variable(environment, WORK_DIR_VARIABLE))
    state, metrics = ServerState(), Metrics()

    def load() -> Served:
        return Startup(spec, open_store(spec.store), engines(spec.engine), work_dir, state, metrics).run()

    failure = asyncio.run(serve(listen(environment, port), load, state, metrics))
    if failure is not None:
        raise failure


def main(engines: OpenEngine = open_engine, port: int = SERVING_PORT) -> NoReturn:
    """Run as the container's process, and end it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in _TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)
    run_as_container(lambda: run(os.environ, engines, port), os.environ)


if __name__ == "__main__":
    main()
