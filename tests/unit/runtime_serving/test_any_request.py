"""Whatever is sent: the answer is never the server's fault, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from neuron_runtime.serving.app import build_app
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.scheduler import Scheduler
from neuron_runtime.serving.state import ServedModel, ServerState
from neuron_runtime.serving.tokenization import load_tokenizer
from support.scripted_engine import END, ScriptedSession, write_snapshot

_WAIT = 30.0
_SLOTS = 4
_PATHS = ("/v1/chat/completions", "/v1/completions", "/tokenize")
_NAMES = [
    "model",
    "messages",
    "prompt",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "seed",
    "stop",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "stream",
    "stream_options",
    "logit_bias",
    "tools",
    "response_format",
    "echo",
    "best_of",
    "suffix",
    "add_special_tokens",
    "role",
    "content",
    "type",
    "text",
    "include_usage",
]

# Half surrogate pairs too, which JSON can escape.
_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.sampled_from([0, 1, 2, 10**4299, "x", "user"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES) | _TEXT, inner, max_size=3),
    max_leaves=6,
)
_BODIES = st.dictionaries(st.sampled_from(_NAMES) | _TEXT, _VALUES, max_size=4)


@dataclass
class _Served:
    app: ASGIApp
    session: ScriptedSession
    scheduler: Scheduler

    def client(self) -> httpx.AsyncClient:
        # Without a timeout of its own; what the application raises is the server's answer, a 500.
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://server", timeout=_WAIT)

    def post(self, path: str, body: bytes) -> httpx.Response:
        async def post() -> httpx.Response:
            async with self.client() as client:
                return await client.post(path, content=body)

        return asyncio.run(post())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Served]:
    folder = tmp_path_factory.mktemp("snapshot")
    write_snapshot(Path(folder))
    session = ScriptedSession(f"Grüße{END}", slots=_SLOTS, decode_batches=(1, _SLOTS))
    metrics, state = Metrics(), ServerState()
    scheduler = Scheduler(session, metrics, queue_limit=7 * _SLOTS)
    scheduler.start()
    state.serve(ServedModel("m", "fp", 0, load_tokenizer(folder), scheduler))
    yield _Served(build_app(state, metrics), session, scheduler)
    scheduler.close(_WAIT)
    assert session.broken_rules == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(_PATHS), changes=_BODIES, chat=st.booleans())
def test_any_document_is_answered(served: _Served, path: str, changes: dict[str, Any], chat: bool) -> None:
    base: dict[str, Any] = {"model": "m"}
    base |= {"messages": [{"role": "user", "content": "hi"}]} if chat else {"prompt": "hi"}
    answer = served.post(path, json.dumps(base | changes).encode())
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert answer.json()["error"]["message"]
    assert served.scheduler.wait_until_idle(_WAIT)
    assert served.scheduler.healthy


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(_PATHS), body=st.binary(max_size=64))
def test_any_bytes_are_answered(served: _Served, path: str, body: bytes) -> None:
    assert served.post(path, body).status_code == 400


def test_hundreds_of_requests_of_which_many_leave(served: _Served) -> None:
    """Eight times as many as there are slots, at any time; a third of them give up at any moment."""
    dice = random.Random(5)
    vocabulary = served.session.capabilities.vocabulary
    served.session.speak = lambda _prompt, _said: np.zeros(vocabulary, np.float32)
    statuses: list[int] = []

    async def ask(client: httpx.AsyncClient, gate: asyncio.Semaphore) -> None:
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": "x" * dice.randrange(1, 40)}],
            "stream": dice.random() < 0.5,
            "max_tokens": dice.randrange(1, 16),
            "temperature": dice.choice([0, 1]),
        }
        patience = dice.random() * 0.05 if dice.random() < 0.33 else _WAIT
        async with gate:
            try:
                answer = await asyncio.wait_for(client.post("/v1/chat/completions", json=body), patience)
            except TimeoutError:
                return
            statuses.append(answer.status_code)

    async def storm() -> None:
        gate = asyncio.Semaphore(8 * _SLOTS)
        async with served.client() as client:
            await asyncio.gather(*(ask(client, gate) for _ in range(400)))

    asyncio.run(storm())
    assert served.scheduler.wait_until_idle(_WAIT)
    assert served.session.held == set()
    assert len(statuses) > 200
    # Nobody is refused who leaves no more than eight in flight for each slot: four run, and 28 wait.
    assert set(statuses) == {200}
