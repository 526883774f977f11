"""`/v1/embeddings` over real sockets, with OpenAI's own client."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, settings
from langchain_openai import OpenAIEmbeddings
from schemathesis import Case
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from neuron_runtime.serving.encoding_scheduler import EncodingScheduler
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.scheduler import Scheduler
from neuron_runtime.serving.state import Phase, Served, ServedEncoder, ServedModel, ServerState
from neuron_runtime.serving.tokenization import load_tokenizer
from support.api_document import api_schema, check_answer
from support.listening_app import listening
from support.scripted_encoder import VOCABULARY, ScriptedEncoder, vector_of
from support.scripted_engine import END, ScriptedSession, byte_tokenizer, write_snapshot
from support.waiting import wait_for

_WAIT = 60.0
_NAME = "tiny/encoder"


@dataclass
class _Running:
    url: str
    state: ServerState
    session: ScriptedEncoder
    model: ServedEncoder
    metrics: Metrics

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def post(self, body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/embeddings", json=body, timeout=_WAIT)

    def tokens(self, text: str) -> list[int]:
        return self.model.tokenizer.encode_text(text, 1000, special=True)


@contextmanager
def _serving(model: Served, state: ServerState, metrics: Metrics) -> Iterator[str]:
    model.scheduler.start()
    state.serve(model)
    try:
        with listening(state, metrics) as url:
            yield url
    finally:
        model.scheduler.close(_WAIT)


def _write_encoder_snapshot(folder: Path) -> None:
    """Its tokenizer ends every text with a token of its own, and was saved as one that cuts and fills up."""
    tokenizer = byte_tokenizer()
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Running]:
    _write_encoder_snapshot(tmp_path)
    session, metrics, state = ScriptedEncoder(), Metrics(), ServerState()
    scheduler = EncodingScheduler(session, metrics, queue_limit=8)
    model = ServedEncoder(_NAME, 1_700_000_000, load_tokenizer(tmp_path), scheduler)
    with _serving(model, state, metrics) as url:
        yield _Running(url, state, session, model, metrics)
        if session.steps is not None:
            session.steps.release(1000)
    assert session.broken_rules == []


def test_a_text(server: _Running) -> None:
    answer = server.client.embeddings.create(model=_NAME, input="hello", encoding_format="float")
    (embedding,) = answer.data
    assert (answer.object, answer.model, embedding.object, embedding.index) == ("list", _NAME, "embedding", 0)
    assert embedding.embedding == pytest.approx(vector_of(server.tokens("hello")))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (6, 6)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_several_texts_in_either_encoding(server: _Running, encoding: Any) -> None:
    texts = ["a", "Grüße", "0123456789", "b", "世界"]
    asked = {} if encoding is None else {"encoding_format": encoding}
    # Without a format the client asks for base64, and gives back numbers.
    answer = server.client.embeddings.create(model=_NAME, input=texts, user="somebody", **asked)
    assert [embedding.index for embedding in answer.data] == [0, 1, 2, 3, 4]
    found = [
        np.frombuffer(base64.b64decode(one.embedding), "<f4").tolist() if encoding == "base64" else one.embedding
        for one in answer.data
    ]
    for text, vector in zip(texts, found, strict=True):
        assert vector == pytest.approx(vector_of(server.tokens(text)), rel=1e-6), text
    assert answer.usage.total_tokens == sum(len(server.tokens(text)) for text in texts)


def test_langchain(server: _Running) -> None:
    # Else it sends tokens of a tokenizer of OpenAI's, which mean something else to other models.
    asked = {"model": _NAME, "base_url": f"{server.url}/v1", "api_key": "none", "check_embedding_ctx_length": False}
    embeddings = OpenAIEmbeddings(**asked)
    texts = ["a", "bcd"]
    assert embeddings.embed_documents(texts) == [pytest.approx(vector_of(server.tokens(text))) for text in texts]
    assert embeddings.embed_query("e") == pytest.approx(vector_of(server.tokens("e")))


def test_tokens_are_taken_as_they_are(server: _Running) -> None:
    one = server.client.embeddings.create(model=_NAME, input=[5, 6, 7])
    assert [embedding.embedding for embedding in one.data] == [pytest.approx(vector_of([5, 6, 7]))]
    two = server.client.embeddings.create(model=_NAME, input=[[5, 6, 7], [8]])
    assert [embedding.embedding for embedding in two.data] == [
        pytest.approx(vector_of([5, 6, 7])),
        pytest.approx(vector_of([8])),
    ]


def test_a_text_and_its_tokens_have_the_same_vector(server: _Running) -> None:
    cut = httpx.post(f"{server.url}/tokenize", json={"prompt": "hello"}).json()
    assert cut == {"count": 6, "max_model_len": 16, "tokens": server.tokens("hello")}
    answer = server.client.embeddings.create(model=_NAME, input=cut["tokens"])
    assert answer.data[0].embedding == pytest.approx(vector_of(server.tokens("hello")))


def test_the_dimensions_that_there_are_may_be_asked_for(server: _Running) -> None:
    answer = server.client.embeddings.create(model=_NAME, input="a", dimensions=3)
    assert len(answer.data[0].embedding) == 3


@pytest.mark.parametrize("count", [16, 17, 100])
def test_many_texts_in_one_answer(server: _Running, count: int) -> None:
    texts = [[number, 1] for number in range(count)]
    answer = server.post({"model": _NAME, "input": texts})
    found = answer.json()
    assert [one["index"] for one in found["data"]] == list(range(count))
    assert [one["embedding"] for one in found["data"]] == [pytest.approx(vector_of(text)) for text in texts]
    assert found["usage"] == {"prompt_tokens": 2 * count, "total_tokens": 2 * count}
    # A larger one is written while it is read.
    assert ("content-length" in answer.headers) is (count <= 16)


def test_a_text_that_makes_no_tokens(tmp_path: Path) -> None:
    blank = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    blank.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    blank.save(str(tmp_path / "tokenizer.json"))
    metrics, state = Metrics(), ServerState()
    scheduler = EncodingScheduler(ScriptedEncoder(), metrics, queue_limit=8)
    model = ServedEncoder(_NAME, 1_700_000_000, load_tokenizer(tmp_path), scheduler)
    with _serving(model, state, metrics) as url:
        answer = httpx.post(f"{url}/v1/embeddings", json={"model": _NAME, "input": ["a", " "]}, timeout=_WAIT)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input.1"
    assert "makes no tokens" in answer.json()["error"]["message"]


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no input": ({"input": None}, "input", "input"),
    "an empty text": ({"input": ""}, "input", "is empty"),
    "an empty list": ({"input": []}, "input", "is empty"),
    "an empty text among others": ({"input": ["a", ""]}, "input.1", "is empty"),
    "an empty list of tokens": ({"input": [[1], []]}, "input.1", "is empty"),
    "a number": ({"input": 7}, "input", "string"),
    "a mixture": ({"input": ["a", 1]}, "input.1", "a text or a list of tokens"),
    "true among tokens": ({"input": [1, True]}, "input", "a text or a list of tokens"),
    "a negative token": ({"input": [-1]}, "input", "a text or a list of tokens"),
    "an unknown token": ({"input": [[1], [VOCABULARY]]}, "input.1", f"below {VOCABULARY}"),
    "too many texts": ({"input": ["a"] * 2049}, "input", "up to 2048"),
    "a text that is too long": ({"input": ["a", "x" * 16]}, "input.1", "up to 16 tokens"),
    "a text that is much too long": ({"input": "x" * 100_000}, "input", "up to 16 tokens"),
    "too many tokens": ({"input": [1] * 17}, "input", "spec.shapes.maxModelLength"),
    "another encoding": ({"encoding_format": "hex"}, "encoding_format", "base64"),
    "fewer dimensions": ({"dimensions": 2}, "dimensions", "have 3 dimensions"),
    "no dimensions": ({"dimensions": 0}, "dimensions", "greater than or equal to 1"),
    "an unknown parameter": ({"stream": True}, "stream", "unknown parameter"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_names_its_parameter(server: _Running, case: str) -> None:
    change, param, said = REFUSED[case]
    answer = server.post({"model": _NAME, "input": "a"} | change)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert said in error["message"]
    assert server.session.calls == []


def test_another_model_is_not_found(server: _Running) -> None:
    with pytest.raises(openai.NotFoundError, match=_NAME):
        server.client.embeddings.create(model="other", input="a")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_encoder_generates_nothing(server: _Running, path: str) -> None:
    answer = httpx.post(f"{server.url}{path}", json={"model": _NAME, "prompt": "a"})
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": f"the model '{_NAME}' is served for the task Embedding, which has no {path}",
        "type": "invalid_request_error",
        "param": "model",
        "code": "unsupported_task",
    }


def test_a_generator_has_no_embeddings(tmp_path: Path) -> None:
    write_snapshot(tmp_path)
    metrics = Metrics()
    scheduler = Scheduler(ScriptedSession(END), metrics, queue_limit=1)
    model = ServedModel("m", "fp", 0, load_tokenizer(tmp_path), scheduler)
    with _serving(model, ServerState(), metrics) as url:
        answer = httpx.post(f"{url}/v1/embeddings", json={"model": "m", "input": "a"})
    assert answer.status_code == 404
    assert "the task TextGeneration" in answer.json()["error"]["message"]


def test_it_is_listed_with_the_longest_text(server: _Running) -> None:
    (model,) = server.client.models.list()
    assert (model.id, model.created, model.to_dict()["max_model_len"]) == (_NAME, 1_700_000_000, 16)


def test_conversations_have_no_tokens_without_a_template(server: _Running) -> None:
    body = {"messages": [{"role": "user", "content": "a"}]}
    answer = httpx.post(f"{server.url}/tokenize", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


def test_requests_at_the_same_time_share_steps_and_have_their_own_vectors(server: _Running) -> None:
    server.session.steps = threading.Semaphore(0)
    texts = [f"{number:06d}" for number in range(9)]
    with concurrent.futures.ThreadPoolExecutor(len(texts)) as pool:
        answers = [pool.submit(server.post, {"model": _NAME, "input": texts[0]})]
        assert server.session.begun.acquire(timeout=_WAIT)
        answers += [pool.submit(server.post, {"model": _NAME, "input": text}) for text in texts[1:]]
        wait_for("all to wait", lambda: _sample(server, "queue_depth") == 8 or None, seconds=_WAIT)
        refused = server.post({"model": _NAME, "input": "one more"})
        server.session.steps.release(3)
        found = [answer.result(_WAIT).json()["data"][0]["embedding"] for answer in answers]
    assert [len(call) for call in server.session.calls] == [1, 4, 4]
    assert found == [pytest.approx(vector_of(server.tokens(text))) for text in texts]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


def test_whoever_leaves_is_not_waited_for(server: _Running) -> None:
    server.session.steps = threading.Semaphore(0)
    with httpx.Client() as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"{server.url}/v1/embeddings", json={"model": _NAME, "input": ["a"] * 8}, timeout=0.5)
    wait_for("nobody to wait", lambda: _sample(server, "queue_depth") == 0 or None, seconds=_WAIT)
    assert server.model.scheduler.wait_until_idle(_WAIT)


def test_a_failing_engine_is_an_error_of_the_server(server: _Running) -> None:
    server.session.fail = True
    with pytest.raises(openai.InternalServerError, match="the engine failed"):
        server.client.embeddings.create(model=_NAME, input="a")


def test_a_server_that_ends_answers_what_it_has_and_takes_no_more(server: _Running) -> None:
    server.session.steps = threading.Semaphore(0)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.post, {"model": _NAME, "input": "a"})
        assert server.session.begun.acquire(timeout=_WAIT)
        server.state.enter(Phase.DRAINING)
        assert httpx.get(f"{server.url}/readyz").status_code == 503
        server.model.scheduler.stop_accepting()
        late = server.post({"model": _NAME, "input": "a"})
        server.session.steps.release()
        assert answer.result(_WAIT).status_code == 200
    assert (late.status_code, late.json()["error"]["code"]) == (503, "not_ready")


def test_numbers_are_written_so_that_they_are_read_again(server: _Running) -> None:
    body = server.post({"model": _NAME, "input": "abc"}).content
    ((found,),) = ([one["embedding"] for one in json.loads(body)["data"]],)
    assert np.array_equal(np.array(found, np.float32), np.array(vector_of(server.tokens("abc")), np.float32))


def _sample(server: _Running, name: str) -> float | None:
    return server.metrics.registry.get_sample_value(f"neuron_serving_{name}")


@api_schema().include(path="/v1/embeddings").parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_are_answered_as_the_document_says(case: Case, server: _Running) -> None:
    check_answer(case, server.url, _NAME)
