"""Every bad parameter is refused by name, in OpenAI's words; parameters that mean nothing are let through."""

import json
from typing import Any

import pytest

from neuron_runtime.serving.api_error import ApiError
from neuron_runtime.serving.chat_request import ChatRequest, parse_chat_request

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
        ({"stop": ["a"] * 5}, "stop", None),
        ({"stop": ["a", ""]}, "stop", None),
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
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"top_k": 5}, "top_k", "unknown_parameter"),
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


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_parameter_is_named(name: str) -> None:
    body = {key: value for key, value in _BODY.items() if key != name}
    with pytest.raises(ApiError) as caught:
        parse_chat_request(json.dumps(body).encode())
    assert (caught.value.param, caught.value.code) == (name, "missing_required_parameter")


def test_values_that_mean_nothing_are_accepted() -> None:
    request = _parse(
        n=1, frequency_penalty=0.0, logit_bias={}, tools=[], response_format={"type": "text"}, user="u", logprobs=None
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
    plain = _parse()
    assert (plain.max_tokens, plain.stops, plain.stream, plain.include_usage) == (None, (), False, False)
    assert (plain.sampling.temperature, plain.sampling.top_p, plain.sampling.seed) == (1.0, 1.0, None)
    full = _parse(
        temperature=0, top_p=0.5, seed=3, stop="x", max_tokens=7, stream=True, stream_options={"include_usage": True}
    )
    assert (full.max_tokens, full.stops, full.stream, full.include_usage) == (7, ("x",), True, True)
    assert (full.sampling.temperature, full.sampling.top_p, full.sampling.seed) == (0.0, 0.5, 3)
