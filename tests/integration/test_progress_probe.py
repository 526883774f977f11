"""Asking a compile pod how far it is, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from neuron_operator.probe import ProgressProbe, progress_probe
from neuron_runtime.contract.progress import PROGRESS_PORT, Progress, Stage
from support.addresses import own_address

PROGRESS = Progress(stage=Stage.FETCHING, done=5, total=10, eta_seconds=1.5, detail="model.safetensors")


@pytest.fixture
async def probe(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProgressProbe]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with progress_probe() as probe:
        yield probe


@pytest.fixture
def address() -> Iterator[str]:
    with own_address() as address:
        yield address


class Pod:
    """Answers in pieces, as a network may deliver it."""

    def __init__(self) -> None:
        self.status = 200
        self.pieces = [PROGRESS.to_json().encode()]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
        return response


@pytest.fixture
async def pod(address: str) -> AsyncIterator[Pod]:
    pod = Pod()
    application = web.Application()
    application.router.add_get("/progress", pod.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, address, PROGRESS_PORT).start()
    yield pod
    await runner.cleanup()


async def test_what_the_pod_says(probe: ProgressProbe, pod: Pod, address: str) -> None:
    assert await probe.read(address) == PROGRESS


async def test_an_answer_in_pieces_is_read_whole(probe: ProgressProbe, pod: Pod, address: str) -> None:
    body = PROGRESS.to_json().encode()
    pod.pieces = [body[:10], body[10:20], body[20:]]
    assert await probe.read(address) == PROGRESS


UNKNOWN: dict[str, tuple[int, bytes]] = {
    "not found": (404, PROGRESS.to_json().encode()),
    "not JSON": (200, b"compiling"),
    "a stage of a newer release": (200, b'{"stage": "Verifying"}'),
    "negative": (200, b'{"stage": "Fetching", "done": -1}'),
    "endless": (200, PROGRESS.to_json().encode() + b" " * 5000),
}


@pytest.mark.parametrize("case", UNKNOWN)
async def test_anything_else_means_unknown(probe: ProgressProbe, pod: Pod, address: str, case: str) -> None:
    pod.status, body = UNKNOWN[case]
    pod.pieces = [body]
    assert await probe.read(address) is None


async def test_a_pod_that_does_not_listen_means_unknown(probe: ProgressProbe, address: str) -> None:
    assert await probe.read(address) is None
