"""Every bad parameter is refused by name, in OpenAI's words; parameters that mean nothing are let through."""

import json
import tracemalloc
from typing import Any

import pytest

from neuron_runtime.serving.api_error import ApiError
from neuron_runtime.serving.chat_request import ChatRequest, parse_chat_request
from neuron_runtime.serving.sampling import SamplingParameters

_BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def _parse(**parameters: Any) -> ChatRequest:
    return parse_chat_request(json.dumps({**_BODY, **parameters}).encode())


@pytest.mark.parametrize(
    ("parameters", "param", "code"),
    [
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": "1"}, "temperature", "invalid_value"),
        ({"temperature": float("nan")}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"top_p": 1.01}, "top_p", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_value"),
        ({"max_completion_tokens": True}, "max_completion_tokens", "invalid_value"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", None),
        ({"seed": "x"}, "seed", "invalid_value"),
        ({"max_tokens": 10**4299}, "max_tokens", "invalid_value"),
        ({"temperature": 10**4299}, "temperature", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": ["a", ""]}, "stop.1", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": [1]}, "stop.0", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hi"}, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "missing_required_parameter"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type",
            "invalid_value",
        ),
        ({"model": 3}, "model", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 17}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_value"),
        ({"logprobs": 0}, "logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", None),
        ({"frequency_penalty": 2.1}, "frequency_penalty", "invalid_value"),
        ({"frequency_penalty": False}, "frequency_penalty", "invalid_value"),
        ({"presence_penalty": -2.1}, "presence_penalty", "invalid_value"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
            "response_format",
            "unsupported_parameter",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": "json_object"}, "response_format", "invalid_value"),
        ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"best_of": 5}, "best_of", "unknown_parameter"),
        ({"store": 0}, "store", "unsupported_parameter"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls", "unsupported_parameter"),
        ({"messages": [{"role": "user", "content": "x"}] * 2049}, "messages", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": "x", "tool_calls": []}]},
            "messages.0.tool_calls",
            "unknown_parameter",
        ),
    ],
)
def test_refused_by_name(parameters: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        _parse(**parameters)
    error = caught.value.document()["error"]
    assert (caught.value.status, error["param"], error["code"]) == (400, param, code)
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_chat_request(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"model":' * 100_000,
        rb'{"model": "\ud800"}',
        rb'{"\uDC00": 1}',
        b'{"model": "\xed\xa0\x80"}',
        '{"model": "m"}'.encode("utf-16"),
    ],
)
def test_what_no_answer_could_repeat_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_chat_request(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_a_character_of_two_escapes_is_one() -> None:
    request = parse_chat_request(rb'{"model": "m", "messages": [{"role": "user", "content": "\ud83d\udc4b"}]}')
    assert request.messages[0]["content"] == "\N{WAVING HAND SIGN}"


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ('{"model":"m","messages":[%s]}', "messages.0"),
        ('{"model":"m","messages":[{"role":"user","content":[%s]}]}', "messages.0.content.0"),
        ('{"model":"m","messages":[{"role":"user","content":"x"}],"stop":[%s]}', "stop.0"),
    ],
)
def test_one_error_is_made_of_many(document: str, param: str) -> None:
    body = (document % ",".join("0" * 100_000)).encode()
    assert _peak_bytes(body, param) < 10_000_000


@pytest.mark.parametrize(
    "document",
    [
        '{"model":"m","messages":[{"role":"user","content":"x",%s}]}',
        '{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{%s}}',
    ],
)
def test_one_error_is_made_of_many_unknown_names(document: str) -> None:
    body = (document % ",".join(f'"x{number}":0' for number in range(20_000))).encode()
    assert _peak_bytes(body, "x0") < 12_000_000


def _peak_bytes(body: bytes, named: str) -> int:
    """Memory that refusing it takes."""
    tracemalloc.start()
    try:
        with pytest.raises(ApiError) as caught:
            parse_chat_request(body)
        assert named in str(caught.value.param)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_name_is_not_repeated() -> None:
    with pytest.raises(ApiError) as caught:
        _parse(**{"x" * 100_000: 1})
    assert len(json.dumps(caught.value.document())) < 500


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_parameter_is_named(name: str) -> None:
    body = {key: value for key, value in _BODY.items() if key != name}
    with pytest.raises(ApiError) as caught:
        parse_chat_request(json.dumps(body).encode())
    assert (caught.value.param, caught.value.code) == (name, "missing_required_parameter")


def test_values_that_mean_nothing_are_accepted() -> None:
    request = _parse(
        n=1, top_k=None, frequency_penalty=None, logit_bias={}, tools=[], response_format={"type": "text"}, user="u"
    )
    assert request == _parse()


def test_text_parts_are_joined_and_developer_is_the_system() -> None:
    request = _parse(
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ]
    )
    assert request.messages == ({"role": "system", "content": "be brief"}, {"role": "user", "content": "ab"})


def test_defaults_and_values() -> None:
    plain = _parse().options
    assert (plain.max_tokens, plain.stops, plain.stream, plain.include_usage) == (None, (), False, False)
    assert (plain.sampling.temperature, plain.sampling.top_p, plain.sampling.seed) == (1.0, 1.0, None)
    full = _parse(
        temperature=0,
        top_p=0.5,
        top_k=4,
        presence_penalty=1,
        frequency_penalty=-0.5,
        seed=3,
        stop="x",
        max_tokens=7,
        n=2,
        logprobs=True,
        top_logprobs=3,
        stream=True,
        stream_options={"include_usage": True},
    ).options
    assert (full.max_tokens, full.stops, full.stream, full.include_usage) == (7, ("x",), True, True)
    assert full.sampling == SamplingParameters(0.0, 0.5, 4, 1.0, -0.5, 3)
    assert (full.choices, full.logprobs) == (2, 3)
