"""Reads the bodies of `POST /v1/completions`, which continues texts, and of `POST /tokenize`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictInt, Tag

from .api_error import ApiError, invalid
from .chat_request import Messages, flat
from .generation_request import MAX_CHOICES, GenerationBody, Options, options_of
from .request_body import BRANCH, LIST, ONE, Strict, parse_object, validated

_MAX_ALTERNATIVES = 5
_DEFAULT_MAX_TOKENS = 16

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "logit_bias": ({},),
    "suffix": ("",),
}
_WITHOUT_EFFECT = frozenset({"user"})

Prompt = str | tuple[int, ...]
"""A text, or its tokens."""


class _Body(GenerationBody):
    # One prompt or several: its four forms differ in their elements, which are checked one by one below.
    prompt: Annotated[Annotated[str, Tag(ONE)] | Annotated[list[Any], Tag(LIST)], BRANCH]
    logprobs: Annotated[StrictInt, Field(ge=0, le=_MAX_ALTERNATIVES)] | None = None


class _TokenizeBody(Strict):
    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: StrictBool = True


@dataclass(frozen=True)
class TextRequest:
    """A checked request for completions."""

    prompts: tuple[Prompt, ...]
    options: Options


@dataclass(frozen=True)
class TokenizeRequest:
    """A checked request for tokens: of a text, or else of a conversation."""

    model: str | None
    prompt: str | None
    messages: tuple[Mapping[str, str], ...]
    special: bool
    """Whether the tokens that a text's beginning or end has of its own are wanted."""


def parse_text_request(body: bytes) -> TextRequest:
    """Parse and check. Raises ApiError (400) naming the parameter."""
    parsed = validated(_Body, parse_object(body), _NEUTRAL, _WITHOUT_EFFECT)
    prompts = _prompts(parsed.prompt)
    options = options_of(parsed, parsed.max_tokens or _DEFAULT_MAX_TOKENS, parsed.logprobs)
    if len(prompts) * options.choices > MAX_CHOICES:
        raise invalid("prompt", f"'prompt' and 'n' ask for more than {MAX_CHOICES} answers; send several requests")
    return TextRequest(prompts, options)


def parse_tokenize_request(body: bytes) -> TokenizeRequest:
    """Parse and check. Raises ApiError (400) naming the parameter."""
    parsed = validated(_TokenizeBody, parse_object(body), {}, ())
    if (parsed.prompt is None) == (parsed.messages is None):
        raise invalid("prompt", "one of 'prompt' and 'messages' is needed, and only one")
    return TokenizeRequest(parsed.model, parsed.prompt, flat(parsed.messages or ()), parsed.add_special_tokens)


def _prompts(value: str | Sequence[Any]) -> tuple[Prompt, ...]:
    if isinstance(value, str):
        return (value,)
    if not value:
        raise invalid("prompt", "invalid 'prompt': it is empty", "invalid_value")
    if isinstance(value[0], int):
        return (_tokens(value, "prompt"),)
    if len(value) > MAX_CHOICES:
        raise invalid("prompt", f"'prompt' holds up to {MAX_CHOICES} prompts, got {len(value)}", "invalid_value")
    if isinstance(value[0], str):
        return tuple(_text(item, f"prompt.{index}") for index, item in enumerate(value))
    return tuple(_tokens(item, f"prompt.{index}") for index, item in enumerate(value))


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
