"""Whatever is sent to an encoder: the answer is never the server's fault, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from neuron_runtime.serving.app import build_app
from neuron_runtime.serving.encoding_scheduler import EncodingScheduler
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.state import ServedEncoder, ServerState
from neuron_runtime.serving.tokenization import load_tokenizer
from support.scripted_encoder import VOCABULARY, ScriptedEncoder, vector_of
from support.scripted_engine import byte_tokenizer

_WAIT = 30.0
_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
_TOKENS = st.lists(st.integers(-1, VOCABULARY), max_size=20)
_INPUTS = _TEXT | _TOKENS | st.lists(_TEXT, max_size=6) | st.lists(_TOKENS, max_size=6) | st.lists(_TEXT | _TOKENS)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.sampled_from([3, 10**4299, "float", "base64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(["model", "input", "encoding_format", "dimensions", "user", "stream"]) | _TEXT


@dataclass
class _Served:
    app: ASGIApp
    session: ScriptedEncoder
    scheduler: EncodingScheduler

    def client(self) -> httpx.AsyncClient:
        # Without a timeout of its own; what the application raises is the server's answer, a 500.
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://server", timeout=_WAIT)

    def post(self, body: bytes) -> httpx.Response:
        async def post() -> httpx.Response:
            async with self.client() as client:
                return await client.post("/v1/embeddings", content=body)

        return asyncio.run(post())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Served]:
    folder: Path = tmp_path_factory.mktemp("snapshot")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    session, metrics, state = ScriptedEncoder(), Metrics(), ServerState()
    scheduler = EncodingScheduler(session, metrics, queue_limit=64)
    scheduler.start()
    state.serve(ServedEncoder("m", 0, load_tokenizer(folder), scheduler))
    yield _Served(build_app(state, metrics), session, scheduler)
    scheduler.close(_WAIT)
    assert session.broken_rules == []


@settings(max_examples=200, deadline=None)
@given(inputs=_INPUTS, changes=st.dictionaries(_NAMES, _VALUES, max_size=3))
def test_any_document_is_answered(served: _Served, inputs: Any, changes: dict[str, Any]) -> None:
    answer = served.post(json.dumps({"model": "m", "input": inputs} | changes).encode())
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert answer.json()["error"]["message"]
    assert served.scheduler.wait_until_idle(_WAIT)
    assert served.scheduler.healthy


def test_hundreds_of_requests_of_which_many_leave(served: _Served) -> None:
    """Sixty-four at any time; a third of them give up at any moment, and the rest have the vectors of their own."""
    dice = random.Random(7)
    statuses: list[int] = []

    async def ask(client: httpx.AsyncClient, gate: asyncio.Semaphore) -> None:
        sizes = [dice.randrange(1, 17) for _ in range(dice.choice([1, 1, 2, 9]))]
        texts = [[dice.randrange(VOCABULARY) for _ in range(size)] for size in sizes]
        patience = dice.random() * 0.05 if dice.random() < 0.33 else _WAIT
        async with gate:
            body = {"model": "m", "input": texts}
            try:
                answer = await asyncio.wait_for(client.post("/v1/embeddings", json=body), patience)
            except TimeoutError:
                return
        statuses.append(answer.status_code)
        if answer.status_code == 200:
            found = [one["embedding"] for one in answer.json()["data"]]
            assert found == [pytest.approx(vector_of(text)) for text in texts]

    async def storm() -> None:
        gate = asyncio.Semaphore(64)
        async with served.client() as client:
            await asyncio.gather(*(ask(client, gate) for _ in range(400)))

    asyncio.run(storm())
    assert served.scheduler.wait_until_idle(_WAIT)
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) > 100
