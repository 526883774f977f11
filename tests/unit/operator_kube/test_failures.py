"""Each answer of the API server is one of the operator's errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from neuron_operator.errors import AlreadyExists, Conflict, NamespaceEnding, OperatorError, Rejected, Transient
from neuron_operator.kube.failures import AnswerNotFound, parse_success, raise_for_answer, translated

_TERMINATING = {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}


def _raise(method: str, status: int, answer: Any, retry_after: str | None = None) -> OperatorError:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    with pytest.raises(OperatorError) as raised:
        raise_for_answer(method, "/api/v1/pods", status, body, retry_after)
    return raised.value


@pytest.mark.parametrize(
    ("method", "status", "answer", "expected"),
    [
        ("GET", 400, {"reason": "BadRequest"}, Rejected),
        ("GET", 401, {"reason": "Unauthorized"}, Transient),
        ("POST", 403, {"reason": "Forbidden"}, Rejected),
        ("POST", 403, {"reason": "Forbidden", "details": _TERMINATING}, NamespaceEnding),
        ("GET", 404, {"reason": "NotFound", "details": {"kind": "pods"}}, AnswerNotFound),
        ("POST", 404, {"reason": "NotFound", "details": {"kind": "namespaces"}}, NamespaceEnding),
        ("PATCH", 404, {"reason": "NotFound", "details": {"kind": "namespaces"}}, NamespaceEnding),
        ("PATCH", 404, b"404 page not found\n", AnswerNotFound),
        ("POST", 409, {"reason": "AlreadyExists"}, AlreadyExists),
        ("PUT", 409, {"reason": "Conflict"}, Conflict),
        ("PUT", 413, b"too large", Rejected),
        ("PATCH", 422, {"reason": "Invalid"}, Rejected),
        ("GET", 429, {"reason": "TooManyRequests"}, Transient),
        ("GET", 500, {"reason": "InternalError"}, Transient),
        ("GET", 503, b"<html>no backend</html>", Transient),
        ("GET", 504, [], Transient),
    ],
)
def test_answers(method: str, status: int, answer: Any, expected: type[OperatorError]) -> None:
    assert type(_raise(method, status, answer)) is expected


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_success_raises_nothing(status: int) -> None:
    raise_for_answer("GET", "/", status, b"{}", None)


def test_the_message_says_what_was_asked_and_what_the_server_said() -> None:
    error = _raise("PATCH", 422, {"message": 'Job "x" is invalid: spec.template: field is immutable'})
    assert f"{error}" == 'PATCH /api/v1/pods: Job "x" is invalid: spec.template: field is immutable'
    assert isinstance(error, Rejected)
    assert error.status == 422


def test_an_answer_that_is_no_json_is_quoted() -> None:
    assert f"{_raise('GET', 503, b'no backend' + b'x' * 1000)}".startswith("GET /api/v1/pods: no backendxxx")


@pytest.mark.parametrize(
    ("header", "after"), [("7", 7.0), ("0", 0.0), ("-1", 0.0), (None, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
)
def test_the_wait_that_the_server_asks_for_is_kept(header: str | None, after: float | None) -> None:
    error = _raise("GET", 429, {}, header)
    assert isinstance(error, Transient)
    assert error.after == after


@pytest.mark.parametrize(
    "raised",
    [
        TimeoutError(),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("cut off"),
        aiohttp.ServerTimeoutError(),
        ConnectionResetError(),
        FileNotFoundError("token"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_answer_is_transient(raised: Exception) -> None:
    with pytest.raises(Transient, match=r"GET /x: .+"), translated("GET /x"):
        raise raised


def test_a_mistake_of_ours_stays_one() -> None:
    with pytest.raises(KeyError), translated("GET /x"):
        raise KeyError("spec")
    with pytest.raises(asyncio.CancelledError), translated("GET /x"):
        raise asyncio.CancelledError


def test_a_success_that_is_no_json_is_transient() -> None:
    assert parse_success("GET /x", b'{"a": 1}') == {"a": 1}
    with pytest.raises(Transient, match="GET /x: the answer is not JSON"):
        parse_success("GET /x", b"<html>")
