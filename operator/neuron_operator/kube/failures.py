"""From what the API server answers, or the lack of an answer, to the operator's errors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp

from neuron_operator.errors import AlreadyExists, Conflict, NamespaceEnding, Rejected, Transient


class AnswerNotFound(Rejected):
    """404: there is no such object, or no such kind."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn a lost connection, a timeout, or a token that cannot be read just now into Transient."""
    try:
        yield
    except TimeoutError as error:
        raise Transient(f"{what}: no answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Transient(f"{what}: {str(error) or type(error).__name__}") from error


def raise_for_answer(method: str, path: str, status: int, body: bytes, retry_after: str | None) -> None:
    """Raise the error that an answer stands for; nothing for a success."""
    if status < 400:
        return
    answer = _parse(body)
    message = f"{method} {path}: {answer.get('message') or status}"
    reason = answer.get("reason", "")
    if status == 401:
        # The token has expired, or is about to be replaced. It is read anew for the next request.
        raise Transient(message)
    if status == 404:
        if method in ("POST", "PATCH") and (answer.get("details") or {}).get("kind") == "namespaces":
            raise NamespaceEnding(message)
        raise AnswerNotFound(message, status)
    if status == 409:
        raise AlreadyExists(message) if reason == "AlreadyExists" else Conflict(message)
    if status == 429 or status >= 500:
        raise Transient(message, _seconds(retry_after))
    if status == 403 and _is_terminating(answer):
        raise NamespaceEnding(message)
    raise Rejected(message, status)


def parse_success(what: str, body: bytes) -> Any:
    """The JSON of a success. Raises Transient for anything else, which only a broken proxy sends."""
    try:
        return json.loads(body)
    except ValueError as error:
        raise Transient(f"{what}: the answer is not JSON") from error


def _parse(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {"message": body[:200].decode(errors="replace").strip()}
    return answer if isinstance(answer, dict) else {}


def _is_terminating(answer: dict[str, Any]) -> bool:
    causes = (answer.get("details") or {}).get("causes") or []
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after is not None else None
    except ValueError:
        return None
