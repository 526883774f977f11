"""Bodies of completions and of tokenize: prompts in all their forms, and every bad parameter by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neuron_runtime.serving.api_error import ApiError
from neuron_runtime.serving.text_request import TextRequest, parse_text_request, parse_tokenize_request


def _parse(**parameters: Any) -> TextRequest:
    return parse_text_request(json.dumps({"model": "m", "prompt": "x", **parameters}).encode())


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_forms_of_a_prompt(prompt: Any, prompts: tuple[Any, ...]) -> None:
    assert _parse(prompt=prompt).prompts == prompts


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [1, True]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [2**31]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt.1"),
        ({"prompt": [[1], "a"]}, "prompt.1"),
        ({"prompt": [[1], [{}]]}, "prompt.1"),
        ({"prompt": ["a"] * 17}, "prompt"),
        ({"prompt": ["a"] * 4, "n": 5}, "prompt"),
        ({"echo": True}, "echo"),
        ({"echo": 0}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 3}, "max_completion_tokens"),
        ({"messages": []}, "messages"),
        ({"stream_options": {}}, "stream_options"),
    ],
)
def test_refused_by_name(parameters: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        _parse(**parameters)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in caught.value.message


def test_defaults() -> None:
    request = _parse(echo=False, best_of=1, suffix=None, user="u")
    assert request == _parse()
    assert (request.options.max_tokens, request.options.logprobs) == (16, None)
    assert _parse(logprobs=0).options.logprobs == 0


@pytest.mark.parametrize("body", [{}, {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}])
def test_tokenize_takes_one_of_prompt_and_messages(body: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        parse_tokenize_request(json.dumps(body).encode())
    assert (caught.value.status, caught.value.param) == (400, "prompt")
