"""Reads what several bodies take alike: a text, its tokens, or a list of either."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Tag, WithJsonSchema

from .api_error import ApiError, invalid
from .request_body import BRANCH, LIST, ONE

Prompt = str | tuple[int, ...]
"""A text, or its tokens."""

_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}}
_MANY = {
    "type": "array",
    "minItems": 1,
    "anyOf": [_TOKENS, {"items": {"type": "string"}}, {"items": _TOKENS}],
}
# The forms differ in their elements, which `prompts_of` checks one by one.
OneOrMore = Annotated[Annotated[str, Tag(ONE)] | Annotated[list[Any], WithJsonSchema(_MANY), Tag(LIST)], BRANCH]


def prompts_of(value: str | Sequence[Any], param: str, most: int) -> tuple[Prompt, ...]:
    """Each of them, up to `most`. Raises ApiError (400) naming the parameter, or the element of it."""
    if isinstance(value, str):
        return (value,)
    if not value:
        raise invalid(param, f"invalid '{param}': it is empty", "invalid_value")
    if isinstance(value[0], int):
        return (_tokens(value, param),)
    if len(value) > most:
        raise invalid(param, f"'{param}' holds up to {most} texts, got {len(value)}", "invalid_value")
    if isinstance(value[0], str):
        return tuple(_text(item, f"{param}.{index}") for index, item in enumerate(value))
    return tuple(_tokens(item, f"{param}.{index}") for index, item in enumerate(value))


def _text(value: Any, param: str) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(param)


def _tokens(value: Any, param: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(token) is int and 0 <= token < 2**31 for token in value):
        raise _wrong(param)
    return tuple(value)


def _wrong(param: str) -> ApiError:
    return invalid(param, f"invalid '{param}': it should be a text or a list of tokens", "invalid_value")
