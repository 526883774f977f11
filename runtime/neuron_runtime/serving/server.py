"""The process's life: HTTP at once, the model in a thread, an orderly end.

Nothing here knows how a model is loaded; `load` does.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import uvicorn

from neuron_runtime.container import failure_of
from neuron_runtime.contract.launch import SERVING_GRACE_SECONDS
from neuron_runtime.contract.outcome import ContainerFailure

from .app import build_app
from .metrics import Metrics
from .state import Phase, Served, ServerState

_log = logging.getLogger(__name__)

# Who closes an idle connection should be the client: else it may send a request just as the server closes. OpenAI's
# client waits 5 s, and load balancers of AWS 60 s.
_KEEP_ALIVE_SECONDS = 75

Load = Callable[[], Served]


@dataclass(frozen=True)
class Ending:
    """How the time is spent that a pod has to end, in seconds."""

    total: float = SERVING_GRACE_SECONDS - 2.0
    """Less than the pod has: the process itself needs a moment."""
    lame_duck: float = 2.0
    """A Service goes on sending requests to a pod that ends until every node has heard of it."""
    close: float = 4.0
    """For the engine's last step."""
    answer: float = 4.0
    """For sending what was left to say."""

    @property
    def drain(self) -> float:
        """For the requests that run."""
        return self.total - self.lame_duck - self.close - self.answer


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: requests that run come before uvicorn's shutdown."""
        yield


async def serve(
    listener: socket.socket, load: Load, state: ServerState, metrics: Metrics, ending: Ending = Ending()
) -> ContainerFailure | None:
    """Serve until SIGTERM, or until loading fails: then returns why."""
    config = uvicorn.Config(
        build_app(state, metrics),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ceil(ending.answer),
    )
    server = _Server(config)
    answering = asyncio.ensure_future(server.serve(sockets=[listener]))
    loaded, stopped = _in_thread(load), _termination()
    starting: set[asyncio.Future[Any]] = {answering, loaded, stopped}
    try:
        await asyncio.wait(starting, return_when=asyncio.FIRST_COMPLETED)
        failure = _serve_or_fail(loaded, state) if loaded.done() else None
        if failure is None:
            await asyncio.wait({answering, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await _drain(state, ending)
    finally:
        server.should_exit = True
        await answering
    return failure


def _serve_or_fail(loaded: "asyncio.Future[Served]", state: ServerState) -> ContainerFailure | None:
    try:
        model = loaded.result()
    except ContainerFailure as failure:
        state.fail(failure.message)
        return failure
    except Exception as error:  # whatever a library raises while it loads: the pod has to end and to say why
        _log.exception("loading failed")
        state.fail(str(error))
        return failure_of(error)
    model.scheduler.start()
    state.serve(model)
    return None


async def _drain(state: ServerState, ending: Ending) -> None:
    state.enter(Phase.DRAINING)
    model = state.model
    if model is None:
        return
    _log.info("draining")
    await asyncio.sleep(ending.lame_duck)
    model.scheduler.stop_accepting()
    if not await asyncio.to_thread(model.scheduler.wait_until_idle, ending.drain):
        _log.warning("requests still run after %.0f s; ending them", ending.drain)
    await asyncio.to_thread(model.scheduler.close, ending.close)


def _in_thread(load: Load) -> "asyncio.Future[Served]":
    """Run on a daemon thread: the end of the process must not wait for a download or a native call."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Served] = loop.create_future()

    def run() -> None:
        outcome: Callable[[], None]
        try:
            outcome = partial(future.set_result, load())
        except BaseException as error:
            outcome = partial(future.set_exception, error)
        # The loop is closed when the process was told to end meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(outcome)

    threading.Thread(target=run, name="load", daemon=True).start()
    return future


def _termination() -> "asyncio.Future[None]":
    """Done once the process is asked to end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def stop() -> None:
        if not future.done():
            future.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return future
