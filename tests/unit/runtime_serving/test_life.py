"""The server's life: up before the model is, ready once it is loaded, drained when it is told to end."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from neuron_runtime.contract.launch import SERVING_GRACE_SECONDS
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.scheduler import Scheduler
from neuron_runtime.serving.server import Ending, serve
from neuron_runtime.serving.state import Phase, ServedModel, ServerState
from neuron_runtime.serving.tokenization import load_tokenizer
from support.scripted_engine import END, ScriptedSession, write_snapshot

_WAIT = 15.0
_BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class _Life:
    """A server whose loading the test holds in its hand."""

    def __init__(self, folder: Path) -> None:
        write_snapshot(folder)
        self.session = ScriptedSession(f"done{END}")
        self.state = ServerState()
        self.may_load = threading.Event()
        self.failure: Exception | None = None
        self.ending = Ending()
        self._folder = folder
        self._metrics = Metrics()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._listener.getsockname()[1]}", timeout=_WAIT)

    def start(self) -> asyncio.Task[ContainerFailure | None]:
        return asyncio.create_task(serve(self._listener, self._load, self.state, self._metrics, self.ending))

    def _load(self) -> ServedModel:
        self.state.enter(Phase.LOADING)
        assert self.may_load.wait(_WAIT)
        if self.failure is not None:
            raise self.failure
        scheduler = Scheduler(self.session, self._metrics, queue_limit=4)
        return ServedModel("m", "fp", 0, load_tokenizer(self._folder), scheduler)

    async def status(self, path: str) -> int:
        return (await self.http.get(path)).status_code


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[_Life]:
    life = _Life(tmp_path)
    yield life
    await life.http.aclose()
    life._listener.close()


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async def wait() -> None:
        while not await condition():  # noqa: ASYNC110 - what the server answers has no event to wait for
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), _WAIT)


async def _ready(life: _Life) -> bool:
    return await life.status("/readyz") == 200


async def test_alive_at_once_and_ready_once_loaded(life: _Life) -> None:
    serving = life.start()
    assert (await life.status("/healthz"), await life.status("/readyz")) == (200, 503)
    assert (await life.http.get("/readyz")).json()["phase"] == "Loading"
    life.may_load.set()
    await _until(lambda: _ready(life))
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving is None
    assert life.session.closed


async def test_the_end_finishes_what_runs(life: _Life) -> None:
    life.session.steps = threading.Semaphore(0)
    life.may_load.set()
    serving = life.start()
    await _until(lambda: _ready(life))
    running = asyncio.create_task(life.http.post("/v1/chat/completions", json=_BODY))
    await _until(lambda: _reached_the_engine(life.session))
    os.kill(os.getpid(), signal.SIGTERM)
    await _until(lambda: _not(_ready(life)))
    assert (await life.http.get("/readyz")).json()["phase"] == "Draining"
    # What is still sent here, by nodes that have not heard of the end, is answered too.
    late = asyncio.create_task(life.http.post("/v1/chat/completions", json=_BODY))
    await asyncio.sleep(0)
    life.session.steps.release(100)
    assert [answer.json()["choices"][0]["message"]["content"] for answer in await asyncio.gather(running, late)] == [
        "done",
        "done",
    ]
    assert await serving is None


@pytest.mark.parametrize("stream", [False, True])
async def test_what_runs_for_too_long_and_what_waits_hear_that_the_server_ends(life: _Life, stream: bool) -> None:
    life.ending = Ending(total=1.2, lame_duck=0.1, close=0.5, answer=0.5)
    life.session.steps = threading.Semaphore(0)
    life.may_load.set()
    serving = life.start()
    await _until(lambda: _ready(life))
    body = {**_BODY, "stream": stream}
    running = asyncio.create_task(life.http.post("/v1/chat/completions", json=body))
    await _until(lambda: _reached_the_engine(life.session))
    waiting = asyncio.create_task(life.http.post("/v1/chat/completions", json=body))
    await _until(lambda: _waits(life))
    os.kill(os.getpid(), signal.SIGTERM)
    ran, waited = await asyncio.gather(running, waiting)
    assert (waited.status_code, waited.json()["error"]["code"]) == (503, "not_ready")
    if stream:
        # Its status is out already.
        assert json.loads(ran.text.split("\n\n")[-2].removeprefix("data: "))["error"]["code"] == "not_ready"
    else:
        assert (ran.status_code, ran.json()["error"]["code"]) == (503, "not_ready")
    assert await serving is None
    life.session.steps.release(100)


def test_the_end_fits_into_the_pods_grace() -> None:
    ending = Ending()
    assert ending.lame_duck + ending.drain + ending.close + ending.answer < SERVING_GRACE_SECONDS
    assert ending.drain > 0.75 * SERVING_GRACE_SECONDS


async def test_told_to_end_while_it_loads(life: _Life) -> None:
    serving = life.start()
    await _until(lambda: _is(life, "/healthz", 200))
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(serving, _WAIT) is None
    life.may_load.set()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ContainerFailure(FailureCode.ARTIFACT_MISSING, "no artifact"), FailureCode.ARTIFACT_MISSING),
        (OSError("nobody foresaw this"), FailureCode.INTERNAL),
        (OSError(errno.ENOSPC, "no space"), FailureCode.OUT_OF_DISK),
    ],
)
async def test_a_start_that_fails_says_why(life: _Life, raised: Exception, code: FailureCode) -> None:
    life.failure = raised
    life.may_load.set()
    failure = await asyncio.wait_for(life.start(), _WAIT)
    assert failure is not None
    assert failure.code is code
    assert str(raised) in failure.message
    assert life.state.phase is Phase.FAILED


async def _reached_the_engine(session: ScriptedSession) -> bool:
    return bool(session.prefills)


async def _waits(life: _Life) -> bool:
    return "neuron_serving_queue_depth 1.0" in (await life.http.get("/metrics")).text


async def _not(condition: Awaitable[bool]) -> bool:
    return not await condition


async def _is(life: _Life, path: str, status: int) -> bool:
    return await life.status(path) == status
