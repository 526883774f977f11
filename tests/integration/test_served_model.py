"""A compiled model behind the server's own process, as its users meet it: their clients, and many of them at once."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import psutil
import pytest
from langchain_openai import ChatOpenAI

from support.serving_process import NAME, ServingProcess
from support.waiting import wait_for

# The model may have to be compiled.
pytestmark = pytest.mark.timeout(1200)

_WAIT = 60.0
_SLOTS = 4
_QUESTION: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Where is Paris?"}]


def test_a_chat_is_the_same_whole_and_streamed(tiny_server: ServingProcess) -> None:
    create = tiny_server.client.chat.completions.create
    whole = create(model=NAME, messages=_QUESTION, max_tokens=12, temperature=0)
    chunks = list(
        create(
            model=NAME,
            messages=_QUESTION,
            max_tokens=12,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *texts, usage = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in texts) == whole.choices[0].message.content
    assert texts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert {chunk.model for chunk in chunks} == {whole.model} == {NAME}


def test_a_text_is_the_same_whole_and_streamed(tiny_server: ServingProcess) -> None:
    create = tiny_server.client.completions.create
    whole = create(model=NAME, prompt="The capital of", max_tokens=12, temperature=0, logprobs=2)
    chunks = list(create(model=NAME, prompt="The capital of", max_tokens=12, temperature=0, logprobs=2, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    told = whole.choices[0].logprobs
    assert told is not None and told.token_logprobs is not None
    streamed = [chunk.choices[0].logprobs for chunk in chunks]
    # Rows of one step are added up in another order than alone, so nothing but the last digits may differ.
    assert [logprob for logprobs in streamed if logprobs for logprob in logprobs.token_logprobs or []] == pytest.approx(
        told.token_logprobs, abs=1e-3
    )


def test_several_answers_with_what_the_model_thought_of_them(tiny_server: ServingProcess) -> None:
    answer = tiny_server.client.chat.completions.create(
        model=NAME, messages=_QUESTION, n=3, seed=3, max_tokens=8, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    for choice in answer.choices:
        assert choice.logprobs is not None and choice.logprobs.content
        for token in choice.logprobs.content:
            likeliest = token.top_logprobs[0].logprob
            assert token.logprob <= likeliest + 1e-6
            assert len(token.top_logprobs) == 2
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 3 * 8


def test_answers_end_before_a_stop_string(tiny_server: ServingProcess) -> None:
    create = tiny_server.client.chat.completions.create
    whole = create(model=NAME, messages=_QUESTION, max_tokens=24, temperature=0).choices[0].message.content or ""
    stop = whole[len(whole) // 2 :][:3]
    cut = create(model=NAME, messages=_QUESTION, max_tokens=24, temperature=0, stop=stop).choices[0]
    assert (cut.message.content, cut.finish_reason) == (whole[: whole.index(stop)], "stop")


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_are_json(tiny_server: ServingProcess, seed: int) -> None:
    """A model with random weights says anything: what ends by itself is an object all the same."""
    answer = tiny_server.client.chat.completions.create(
        model=NAME, messages=_QUESTION, seed=seed, n=4, response_format={"type": "json_object"}
    )
    for choice in answer.choices:
        text = choice.message.content or ""
        assert text.startswith("{")
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(text), dict)


def test_errors_name_the_parameter(tiny_server: ServingProcess) -> None:
    create = tiny_server.client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as wrong:
        create(model=NAME, messages=_QUESTION, temperature=3)
    assert (wrong.value.param, wrong.value.code) == ("temperature", "invalid_value")
    with pytest.raises(openai.BadRequestError) as long:
        create(model=NAME, messages=[{"role": "user", "content": "word " * 100}])
    assert (long.value.param, long.value.code) == ("messages", "context_length_exceeded")
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="other", messages=_QUESTION)
    assert (missing.value.param, missing.value.code) == ("model", "model_not_found")


def test_langchain(tiny_server: ServingProcess) -> None:
    def model(**parameters: Any) -> ChatOpenAI:
        return ChatOpenAI(
            model=NAME,
            base_url=f"{tiny_server.url}/v1",
            api_key="none",
            temperature=0,
            max_retries=0,
            http_client=tiny_server.connections(),
            **parameters,
        )

    whole = model(max_completion_tokens=12).invoke("Where is Paris?")
    assert isinstance(whole.content, str) and whole.content
    assert whole.response_metadata["model_name"] == NAME
    assert whole.usage_metadata is not None and whole.usage_metadata["output_tokens"] <= 12
    streamed = list(model(max_completion_tokens=12, stream_usage=True).stream("Where is Paris?"))
    assert "".join(str(chunk.content) for chunk in streamed) == whole.content
    assert [chunk.usage_metadata for chunk in streamed if chunk.usage_metadata] == [whole.usage_metadata]


class _Crowd:
    """Requests of all kinds, of which some are wrong, and clients of which some leave: as the dice say."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._dice = random.Random(seed)
        self.heard: Counter[int | str] = Counter()

    async def come(self, number: int, together: int) -> None:
        """So many requests, of which so many are there at any time."""
        gate = asyncio.Semaphore(together)
        limits = httpx.Limits(max_connections=together)
        async with httpx.AsyncClient(base_url=self._url, timeout=_WAIT, limits=limits) as client:

            async def one() -> None:
                async with gate:
                    self.heard[await self._ask(client)] += 1

            await asyncio.gather(*(one() for _ in range(number)))

    async def _ask(self, client: httpx.AsyncClient) -> int | str:
        path, body = self._request()
        patience = self._dice.choice([0.001, 0.01, 0.05, 0.2]) if self._dice.random() < 0.3 else _WAIT
        leaves_after = self._dice.randrange(1, 6) if self._dice.random() < 0.3 else 10**6
        try:
            async with asyncio.timeout(patience), client.stream("POST", path, json=body) as answer:
                lines = 0
                async for _ in answer.aiter_lines():
                    lines += 1
                    if lines > leaves_after:
                        return "left a stream"
                return answer.status_code
        except TimeoutError:
            return "lost patience"

    def _request(self) -> tuple[str, dict[str, Any]]:
        dice = self._dice
        words = "Where is Paris? " * dice.randrange(1, 4)
        body: dict[str, Any] = {
            "model": NAME,
            "stream": dice.random() < 0.5,
            "max_tokens": dice.randrange(1, 24),
            "temperature": dice.choice([0, 1]),
            "n": dice.choice([1, 1, 1, 2]),
        }
        if dice.random() < 0.2:
            body["stop"] = ["a", "the "]
        if dice.random() < 0.1:
            body |= dice.choice([{"temperature": 9}, {"max_tokens": 1000}, {"model": "other"}, {"unknown": 1}])
        if dice.random() < 0.4:
            return "/v1/completions", {**body, "prompt": words}
        if dice.random() < 0.1:
            body["response_format"] = {"type": "json_object"}
        return "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": words}]}


@dataclass(frozen=True)
class _Held:
    """What a server holds while it does nothing."""

    tasks: int
    descriptors: int
    memory: int


def _held(server: ServingProcess) -> _Held:
    """Once all connections are closed, and nothing runs or waits."""

    def look() -> _Held | None:
        if any(server.metric(f"neuron_serving_{name}") for name in ("running_requests", "queue_depth")):
            return None
        connections = [one for one in server.process.net_connections() if one.status != psutil.CONN_LISTEN]
        if connections:
            return None
        process = server.process
        return _Held(server.tasks(), process.num_fds(), process.memory_info().rss)

    return wait_for("the server to have nothing to do", look, seconds=_WAIT)


def test_a_thousand_requests_of_which_many_leave(tiny_server: ServingProcess) -> None:
    """Eight times as many as there are slots, at any time. Afterwards it is as if nobody had been there."""
    crowd = _Crowd(tiny_server.url, seed=11)
    # What is made once, and kept, is there when the first ones have gone.
    asyncio.run(crowd.come(200, together=8 * _SLOTS))
    before = _held(tiny_server)

    asyncio.run(crowd.come(1000, together=8 * _SLOTS))

    after = _held(tiny_server)
    # Requests for two answers can find a queue that is full; nothing else is refused, and nothing fails.
    assert set(crowd.heard) - {429} == {200, 400, 404, "left a stream", "lost patience"}
    assert crowd.heard[200] > 400
    assert crowd.heard["left a stream"] + crowd.heard["lost patience"] > 200
    assert (after.tasks, after.descriptors) == (before.tasks, before.descriptors)
    assert after.memory - before.memory < 16 * 2**20
    waited = tiny_server.metric("neuron_serving_queue_wait_seconds_sum")
    answer = tiny_server.client.chat.completions.create(model=NAME, messages=_QUESTION, n=_SLOTS, max_tokens=4)
    assert len(answer.choices) == _SLOTS
    assert tiny_server.metric("neuron_serving_queue_wait_seconds_sum") - waited < 0.5
    assert tiny_server.metric("neuron_serving_engine_failures_total") == 0
