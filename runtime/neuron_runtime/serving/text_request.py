"""Reads the bodies of `POST /v1/completions`, which continues texts, and of `POST /tokenize`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictInt

from .api_error import invalid
from .chat_request import Messages, flat
from .generation_request import MAX_CHOICES, GenerationBody, Options, options_of
from .request_body import BodyForm, Strict
from .text_input import OneOrMore, Prompt, prompts_of

_MAX_ALTERNATIVES = 5
_DEFAULT_MAX_TOKENS = 16

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "logit_bias": ({},),
    "suffix": ("",),
}
_WITHOUT_EFFECT = frozenset({"user"})


class TextBody(GenerationBody):
    """The body of a request for completions as it is sent."""

    prompt: OneOrMore
    logprobs: Annotated[StrictInt, Field(ge=0, le=_MAX_ALTERNATIVES)] | None = None


class TokenizeBody(Strict):
    """The body of a request for tokens as it is sent."""

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: StrictBool = True


TEXT_BODY = BodyForm(TextBody, _NEUTRAL, _WITHOUT_EFFECT)
TOKENIZE_BODY = BodyForm(TokenizeBody)


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
    parsed = TEXT_BODY.parse(body)
    prompts = prompts_of(parsed.prompt, "prompt", MAX_CHOICES)
    options = options_of(parsed, parsed.max_tokens or _DEFAULT_MAX_TOKENS, parsed.logprobs)
    if len(prompts) * options.choices > MAX_CHOICES:
        raise invalid("prompt", f"'prompt' and 'n' ask for more than {MAX_CHOICES} answers; send several requests")
    return TextRequest(prompts, options)


def parse_tokenize_request(body: bytes) -> TokenizeRequest:
    """Parse and check. Raises ApiError (400) naming the parameter."""
    parsed = TOKENIZE_BODY.parse(body)
    if (parsed.prompt is None) == (parsed.messages is None):
        raise invalid("prompt", "one of 'prompt' and 'messages' is needed, and only one")
    return TokenizeRequest(parsed.model, parsed.prompt, flat(parsed.messages or ()), parsed.add_special_tokens)
