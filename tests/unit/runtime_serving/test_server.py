"""The server over real sockets, with OpenAI's own client."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from tokenizers import Tokenizer, models

from neuron_runtime.engines.base import Sampling
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.request_body import BODY_LIMIT
from neuron_runtime.serving.scheduler import Scheduler
from neuron_runtime.serving.state import Phase, ServedModel, ServerState
from neuron_runtime.serving.tokenization import load_tokenizer
from support.listening_app import listening
from support.scripted_engine import END, MAX_MODEL_LENGTH, ScriptedSession, write_snapshot

_ANSWER = "Grüße, 世界! 👋"
_WAIT = 60.0


@dataclass
class _Running:
    url: str
    state: ServerState
    session: ScriptedSession
    model: ServedModel

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def say(self, text: str) -> None:
        self.session.script = self.session.tokenizer.encode(text).ids


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Running]:
    write_snapshot(tmp_path)
    session, metrics, state = ScriptedSession(_ANSWER + END), Metrics(), ServerState()
    scheduler = Scheduler(session, metrics, queue_limit=1)
    scheduler.start()
    model = ServedModel("tiny/chat", "fp_0123456789", 1_700_000_000, load_tokenizer(tmp_path), scheduler)
    with listening(state, metrics) as url:
        state.serve(model)
        yield _Running(url, state, session, model)
        if session.steps is not None:
            session.steps.release(1000)
    scheduler.close(_WAIT)


def _ask(text: str) -> list[openai.types.chat.ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": text}]


def test_chat(server: _Running) -> None:
    answer = server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"), temperature=0)
    assert answer.choices[0].message.content == _ANSWER
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.system_fingerprint == "fp_0123456789"
    assert server.session.tokenizer.decode(server.session.prompt, skip_special_tokens=False) == f"u:hi{END}a:"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(server.session.prompt)
    assert answer.usage.completion_tokens == len(_ANSWER.encode())
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_streaming_gives_the_same_text_in_whole_characters(server: _Running) -> None:
    chunks = list(
        server.client.chat.completions.create(
            model="tiny/chat", messages=_ask("hi"), stream=True, stream_options={"include_usage": True}
        )
    )
    assert len({chunk.id for chunk in chunks}) == 1
    *texts, usage = chunks
    assert texts[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in texts]
    assert "".join(pieces) == _ANSWER
    assert [piece for piece in pieces if piece] == list(_ANSWER)
    assert [chunk.choices[0].finish_reason for chunk in texts] == [None] * (len(texts) - 1) + ["stop"]
    assert usage.choices == []
    assert usage.usage is not None and usage.usage.completion_tokens == len(_ANSWER.encode())


def test_events_on_the_wire(server: _Running) -> None:
    body = {"model": "tiny/chat", "messages": _ask("hi"), "stream": True, "max_tokens": 2}
    response = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    *events, end, rest = response.text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    documents = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [document["choices"][0]["delta"] for document in documents] == [
        {"role": "assistant", "content": ""},
        {"content": "G"},
        {"content": "r"},
        {},
    ]
    assert documents[-1]["choices"][0]["finish_reason"] == "length"
    assert all("usage" not in document for document in documents)


def test_several_answers(server: _Running) -> None:
    answer = server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"), n=2)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(0, _ANSWER), (1, _ANSWER)]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(server.session.prompt)
    assert answer.usage.completion_tokens == 2 * len(_ANSWER.encode())


def test_several_answers_in_one_stream(server: _Running) -> None:
    texts, reasons = ["", ""], ["", ""]
    for chunk in server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"), n=2, stream=True):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        reasons[choice.index] += choice.finish_reason or ""
    assert texts == [_ANSWER, _ANSWER]
    assert reasons == ["stop", "stop"]


def test_more_answers_than_there_is_room_for_leave_nothing_behind(server: _Running) -> None:
    with pytest.raises(openai.RateLimitError):
        server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"), n=3)
    assert server.model.scheduler.wait_until_idle(_WAIT)


def test_seeds_make_answers_that_come_again_and_differ_from_each_other(server: _Running) -> None:
    vocabulary = server.session.capabilities.vocabulary
    server.session.speak = lambda _prompt, _said: np.zeros(vocabulary, np.float32)

    def ask() -> list[str | None]:
        answer = server.client.chat.completions.create(
            model="tiny/chat", messages=_ask("hi"), n=2, seed=5, max_tokens=8
        )
        return [choice.message.content for choice in answer.choices]

    first = ask()
    assert first == ask()
    assert first[0] != first[1]


def test_penalties_and_candidates_reach_the_engines_thread(server: _Running) -> None:
    vocabulary = server.session.capabilities.vocabulary
    server.session.speak = lambda _prompt, _said: np.zeros(vocabulary, np.float32)
    create = server.client.chat.completions.create

    def ask(**parameters: Any) -> str:
        content = create(model="tiny/chat", messages=_ask("hi"), max_tokens=6, **parameters).choices[0].message.content
        assert content is not None
        return content

    assert len(set(ask(temperature=0))) == 1
    assert len(set(ask(temperature=0, frequency_penalty=1))) == 6
    assert len(set(ask(temperature=0, presence_penalty=1))) == 6
    assert len(set(ask(extra_body={"top_k": 1}))) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_a_chat(server: _Running, stream: bool) -> None:
    ask = {"model": "tiny/chat", "messages": _ask("hi"), "logprobs": True, "top_logprobs": 2, "stream": stream}
    response = httpx.post(f"{server.url}/v1/chat/completions", json=ask)
    if stream:
        events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        told = [event["choices"][0]["logprobs"] for event in events]
        entries = [entry for logprobs in told if logprobs for entry in logprobs["content"]]
    else:
        entries = response.json()["choices"][0]["logprobs"]["content"]
    assert len(entries) == len(_ANSWER.encode())
    assert (entries[0]["token"], entries[0]["bytes"], entries[0]["logprob"]) == ("G", [71], pytest.approx(0.0))
    # The first byte of a character is no character.
    assert (entries[2]["token"], entries[2]["bytes"]) == ("\N{REPLACEMENT CHARACTER}", None)
    assert [len(entry["top_logprobs"]) for entry in entries] == [2] * len(entries)
    assert entries[0]["top_logprobs"][0]["token"] == "G"


def test_completions(server: _Running) -> None:
    answer = server.client.completions.create(model="tiny/chat", prompt="hi", max_tokens=40, temperature=0, logprobs=1)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (_ANSWER, "stop")
    assert answer.object == "text_completion"
    assert server.session.tokenizer.decode(server.session.prompt) == "hi"
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.tokens is not None and logprobs.text_offset is not None
    assert logprobs.tokens[:2] == ["G", "r"]
    assert logprobs.text_offset[:5] == [0, 1, 2, 2, 3]
    assert answer.usage is not None and answer.usage.prompt_tokens == 2


def test_completions_are_short_unless_they_are_asked_to_be_long(server: _Running) -> None:
    answer = server.client.completions.create(model="tiny/chat", prompt="hi")
    assert answer.usage is not None and answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"


def test_completions_in_a_stream(server: _Running) -> None:
    chunks = list(
        server.client.completions.create(
            model="tiny/chat", prompt="hi", max_tokens=40, stream=True, stream_options={"include_usage": True}
        )
    )
    *texts, usage = chunks
    assert "".join(chunk.choices[0].text for chunk in texts) == _ANSWER
    assert texts[-1].choices[0].finish_reason == "stop"
    assert usage.usage is not None and usage.usage.completion_tokens == len(_ANSWER.encode())


def test_completions_of_tokens_and_of_several_prompts(server: _Running) -> None:
    tokens = server.session.tokenizer.encode("from tokens").ids
    server.client.completions.create(model="tiny/chat", prompt=tokens, max_tokens=1)
    assert server.session.prompt == tokens
    answer = server.client.completions.create(model="tiny/chat", prompt=["a", "bc"], max_tokens=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 2)


@pytest.mark.parametrize(
    ("parameters", "param", "code"),
    [
        ({"prompt": "hi", "echo": True}, "echo", "unsupported_parameter"),
        ({"prompt": ""}, "prompt", "invalid_prompt"),
        ({"prompt": [257]}, "prompt", "unknown_token"),
        ({"prompt": "x" * 60, "max_tokens": 5}, "prompt", "context_length_exceeded"),
        ({"prompt": "x" * 100_000}, "prompt", "context_length_exceeded"),
        ({"prompt": [1] * 65}, "prompt", "context_length_exceeded"),
    ],
)
def test_completions_that_are_refused(server: _Running, parameters: dict[str, Any], param: str, code: str) -> None:
    response = httpx.post(f"{server.url}/v1/completions", json={"model": "tiny/chat", **parameters})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)
    assert server.session.calls == []


def test_graphs_that_choose_tokens_themselves_heed_no_sampling(server: _Running) -> None:
    server.session.capabilities = replace(server.session.capabilities, sampling=Sampling.ON_DEVICE)
    with pytest.raises(openai.BadRequestError) as caught:
        server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"), temperature=0.5)
    assert (caught.value.param, caught.value.code) == ("temperature", "unsupported_parameter")


@pytest.mark.parametrize("stream", [False, True])
def test_answers_that_are_json_whatever_the_model_would_rather_say(server: _Running, stream: bool) -> None:
    """The model wants to say something else, and as its second choice to close what it was made to open."""
    vocabulary, encode = server.session.tokenizer.get_vocab_size(), server.session.tokenizer.encode
    liked = np.zeros(vocabulary, np.float32)
    liked[encode("no json").ids] = 50
    for rank, character in enumerate('{}:1"'):
        liked[encode(character).ids] = 30 - rank
    server.session.speak = lambda _prompt, said: liked - 40 * np.isin(np.arange(vocabulary), said[-1:])
    response = httpx.post(
        f"{server.url}/v1/chat/completions",
        json={
            "model": "tiny/chat",
            "messages": _ask("hi"),
            "temperature": 0,
            "response_format": {"type": "json_object"},
            "logprobs": True,
            "stream": stream,
        },
    )
    if stream:
        events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
        reason = events[-1]["choices"][0]["finish_reason"]
    else:
        choice = response.json()["choices"][0]
        text, reason = choice["message"]["content"], choice["finish_reason"]
        # They are the model's own: it did not like what it was made to say.
        assert choice["logprobs"]["content"][0]["logprob"] < -10
    assert reason == "stop"
    assert json.loads(text) == {}
    assert server.model.scheduler.wait_until_idle(_WAIT)


def test_json_that_is_cut_says_so(server: _Running) -> None:
    answer = server.client.chat.completions.create(
        model="tiny/chat", messages=_ask("hi"), max_tokens=1, n=2, response_format={"type": "json_object"}
    )
    assert [(choice.message.content, choice.finish_reason) for choice in answer.choices] == [("{", "length")] * 2


def test_json_of_graphs_that_choose_tokens_themselves_is_refused(server: _Running) -> None:
    server.session.capabilities = replace(server.session.capabilities, sampling=Sampling.ON_DEVICE)
    with pytest.raises(openai.BadRequestError) as caught:
        server.client.chat.completions.create(
            model="tiny/chat", messages=_ask("hi"), response_format={"type": "json_object"}
        )
    assert (caught.value.param, caught.value.code) == ("response_format", "unsupported_parameter")


def test_json_of_a_vocabulary_whose_bytes_are_unknown_is_refused(
    server: _Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    monkeypatch.setattr(server.model.tokenizer, "_tokenizer", unknown)
    with pytest.raises(openai.BadRequestError, match="cannot be told apart") as caught:
        server.client.chat.completions.create(
            model="tiny/chat", messages=_ask("hi"), response_format={"type": "json_object"}
        )
    assert caught.value.param == "response_format"


def test_tokenize(server: _Running) -> None:
    answer = httpx.post(f"{server.url}/tokenize", json={"model": "tiny/chat", "prompt": "Grüße"}).json()
    tokens = server.session.tokenizer.encode("Grüße").ids
    assert answer == {"count": 7, "max_model_len": MAX_MODEL_LENGTH, "tokens": tokens}
    chat = httpx.post(f"{server.url}/tokenize", json={"messages": _ask("hi")}).json()
    assert server.session.tokenizer.decode(chat["tokens"], skip_special_tokens=False) == f"u:hi{END}a:"
    refused = httpx.post(f"{server.url}/tokenize", json={"model": "other", "prompt": "x"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "model")


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_end_the_answer_and_the_engines_work(server: _Running, stream: bool) -> None:
    server.say("one two three " * 3)
    body = {"model": "tiny/chat", "messages": _ask("x"), "stop": ["two", "never"], "stream": stream, "max_tokens": 40}
    with httpx.Client() as client:
        response = client.post(f"{server.url}/v1/chat/completions", json=body)
    if stream:
        events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
        reason = events[-1]["choices"][0]["finish_reason"]
    else:
        text = response.json()["choices"][0]["message"]["content"]
        reason = response.json()["choices"][0]["finish_reason"]
    assert (text, reason) == ("one ", "stop")
    assert server.model.scheduler.wait_until_idle(_WAIT)


def test_an_incomplete_character_at_the_limit(server: _Running) -> None:
    server.say("€")
    answer = server.client.chat.completions.create(model="tiny/chat", messages=_ask("x"), max_tokens=4)
    assert answer.choices[0].message.content == "€\N{REPLACEMENT CHARACTER}"
    assert answer.choices[0].finish_reason == "length"


def test_without_a_limit_the_answer_ends_with_the_context(server: _Running) -> None:
    server.say("y")
    answer = server.client.chat.completions.create(model="tiny/chat", messages=_ask("x"))
    assert answer.usage is not None and answer.usage.total_tokens == MAX_MODEL_LENGTH
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize(("text", "max_tokens"), [("x" * 80, None), ("x" * 20, 60), ("x" * 100_000, None)])
def test_more_than_the_context_is_refused(server: _Running, text: str, max_tokens: int | None) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.client.chat.completions.create(model="tiny/chat", messages=_ask(text), max_tokens=max_tokens)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert "64 tokens" in caught.value.message


def test_a_token_that_the_model_does_not_know_is_refused(server: _Running) -> None:
    server.session.capabilities = replace(server.session.capabilities, vocabulary=256)
    with pytest.raises(openai.BadRequestError) as caught:
        server.client.chat.completions.create(model="tiny/chat", messages=_ask(f"hi{END}"))
    assert (caught.value.code, caught.value.param) == ("unknown_token", "messages")
    assert server.session.prefills == []


def test_errors_are_those_that_openais_client_knows(server: _Running) -> None:
    create = server.client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="other", messages=_ask("hi"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as invalid:
        create(model="tiny/chat", messages=_ask("hi"), temperature=9)
    assert (invalid.value.param, invalid.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as unsupported:
        create(model="tiny/chat", messages=_ask("hi"), logit_bias={"1": 5})
    assert (unsupported.value.param, unsupported.value.code) == ("logit_bias", "unsupported_parameter")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/chat/completions", 405), ("GET", "/v1/none", 404), ("POST", "/", 404)]
)
def test_unknown_routes_answer_in_openais_words(server: _Running, method: str, path: str, status: int) -> None:
    response = httpx.request(method, server.url + path)
    assert response.status_code == status
    assert path in response.json()["error"]["message"]


def test_a_body_that_is_too_large(server: _Running) -> None:
    response = httpx.post(f"{server.url}/v1/chat/completions", content=b" " * (BODY_LIMIT + 1))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_engine_is_a_500(server: _Running, stream: bool) -> None:
    server.session.fail = True
    with pytest.raises(openai.InternalServerError, match="the engine failed"):
        server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"), stream=stream)


def test_an_engine_that_fails_in_the_middle_of_a_stream(server: _Running) -> None:
    server.session.steps = threading.Semaphore(0)
    stream = server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"), stream=True)
    assert next(stream).choices[0].delta.role == "assistant"
    server.session.fail = True
    server.session.steps.release(1)
    with pytest.raises(openai.APIError, match="the engine failed"):
        list(stream)


def test_an_engine_that_goes_on_failing_is_unhealthy(server: _Running) -> None:
    server.session.fail = True
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"))
    assert httpx.get(f"{server.url}/healthz").status_code == 503
    assert httpx.get(f"{server.url}/readyz").status_code == 503


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_the_engine(server: _Running, stream: bool) -> None:
    server.session.steps = threading.Semaphore(0)
    server.say("endless ")
    body = {"model": "tiny/chat", "messages": _ask("hi"), "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=0.5)
    _until(lambda: 'route="/v1/chat/completions"} 1.0' in httpx.get(f"{server.url}/metrics").text)
    # The answer would go on for many more steps than the one that the engine is at, and one that it may have begun.
    server.session.steps.release(2)
    assert server.model.scheduler.wait_until_idle(_WAIT)


def test_a_full_queue_is_a_429_and_a_client_that_leaves_the_queue_makes_room(server: _Running) -> None:
    server.session.steps = threading.Semaphore(0)
    create = server.client.chat.completions.create
    running = create(model="tiny/chat", messages=_ask("running"), stream=True)
    with pytest.raises(openai.APITimeoutError):
        # It waits in the queue until it gives up, with nothing ever sent to it.
        create(model="tiny/chat", messages=_ask("waiting"), stream=True, timeout=0.5)
    waiting = threading.Thread(target=create, kwargs={"model": "tiny/chat", "messages": _ask("waiting")})
    waiting.start()
    _until(lambda: "neuron_serving_queue_depth 1.0" in httpx.get(f"{server.url}/metrics").text)
    with pytest.raises(openai.RateLimitError) as caught:
        create(model="tiny/chat", messages=_ask("too many"))
    assert int(caught.value.response.headers["retry-after"]) >= 1
    server.session.steps.release(1000)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in running) == _ANSWER
    waiting.join(_WAIT)
    assert not waiting.is_alive()


def test_models(server: _Running) -> None:
    listed = server.client.models.list().data
    assert [model.id for model in listed] == ["tiny/chat"]
    assert server.client.models.retrieve("tiny/chat").created == 1_700_000_000
    with pytest.raises(openai.NotFoundError):
        server.client.models.retrieve("other")


def test_before_it_is_ready() -> None:
    state = ServerState()
    state.enter(Phase.FETCHING)
    state.advance(5, 10)
    with listening(state, Metrics()) as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        ready = httpx.get(f"{url}/readyz")
        assert ready.status_code == 503
        assert {"ready": False, "phase": "Fetching", "done": 5, "total": 10}.items() <= ready.json().items()
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="tiny/chat", messages=_ask("hi"))
        assert (caught.value.status_code, caught.value.code) == (503, "not_ready")
        assert caught.value.response.headers["retry-after"]


def test_an_exception_that_nobody_expected_is_counted_as_the_500_that_it_is(
    server: _Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.model.scheduler, "submit", None)
    with pytest.raises(openai.InternalServerError) as caught:
        server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"))
    assert caught.value.code == "internal_error"
    text = httpx.get(f"{server.url}/metrics").text
    assert 'neuron_serving_http_requests_total{code="500",route="/v1/chat/completions"} 1.0' in text


def test_a_client_that_leaves_before_its_body_is_there(server: _Running, caplog: pytest.LogCaptureFixture) -> None:
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 0)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    counted = 'neuron_serving_http_requests_total{code="499",route="/v1/chat/completions"} 1.0'
    _until(lambda: counted in httpx.get(f"{server.url}/metrics").text)
    assert [record for record in caplog.records if record.exc_info] == []


def test_paths_cannot_forge_lines_of_log(server: _Running, caplog: pytest.LogCaptureFixture) -> None:
    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name.endswith("observed")]

    with caplog.at_level("INFO", logger="neuron_runtime.serving.observed"):
        httpx.get(f"{server.url}/a%0AINFO:%20forged")
        httpx.get(f"{server.url}/{'b' * 5000}")
        # A line is written when the answer is out already.
        _until(lambda: len(lines()) == 2)
    assert all("\n" not in line and len(line) < 300 for line in lines())


def test_metrics(server: _Running) -> None:
    server.client.chat.completions.create(model="tiny/chat", messages=_ask("hi"))
    httpx.get(f"{server.url}/some/path")
    text = httpx.get(f"{server.url}/metrics").text
    assert 'neuron_serving_http_requests_total{code="200",route="/v1/chat/completions"} 1.0' in text
    assert 'neuron_serving_http_requests_total{code="404",route="other"} 1.0' in text
    assert f"neuron_serving_generated_tokens_total {len(_ANSWER.encode()) + 1}.0" in text
    assert "neuron_serving_ready 1.0" in text


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met"
        time.sleep(0.02)
