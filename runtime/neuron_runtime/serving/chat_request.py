"""Reads the body of `POST /v1/chat/completions`.

What a parameter of OpenAI's would change here and this server cannot do is refused by name, never ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, Tag

from .api_error import invalid
from .request_body import BRANCH, LIST, ONE, Number, Strict, parse_object, validated
from .sampling import SamplingParameters

_MAX_MESSAGES = 2048
_MAX_PARTS = 256
_MAX_STOPS = 4
_MAX_STOP_LENGTH = 256
# Far beyond any context, and short enough to be repeated in a message.
_MAX_TOKENS = 2**31 - 1

# Parameters of OpenAI's API that are not implemented, with the values at which they mean nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
# They say who asks, or serve the caller's bookkeeping: no answer depends on them.
_WITHOUT_EFFECT = frozenset({"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user"})

Stop = Annotated[str, Field(min_length=1, max_length=_MAX_STOP_LENGTH)]


class _TextPart(Strict):
    type: Literal["text"]
    text: str


class _Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag(ONE)] | Annotated[list[_TextPart], Field(fail_fast=True, max_length=_MAX_PARTS), Tag(LIST)],
        BRANCH,
    ]
    name: str | None = None


class _StreamOptions(Strict):
    include_usage: StrictBool = False
    include_obfuscation: Literal[False] = False


class _Body(Strict):
    model: str
    messages: Annotated[list[_Message], Field(fail_fast=True, min_length=1, max_length=_MAX_MESSAGES)]
    max_tokens: Annotated[StrictInt, Field(ge=1, le=_MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, le=_MAX_TOKENS)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[
        Annotated[Stop | None, Tag(ONE)]
        | Annotated[list[Stop], Field(fail_fast=True, max_length=_MAX_STOPS), Tag(LIST)],
        BRANCH,
    ] = None
    stream: StrictBool | None = None
    stream_options: _StreamOptions | None = None


@dataclass(frozen=True)
class ChatRequest:
    """A checked request."""

    model: str
    messages: tuple[Mapping[str, str], ...]
    """Role and text, as chat templates take them."""
    max_tokens: int | None
    """None: up to the end of the context."""
    sampling: SamplingParameters
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool


def parse_chat_request(body: bytes) -> ChatRequest:
    """Parse and check. Raises ApiError (400) naming the parameter."""
    parsed = validated(_Body, parse_object(body), _NEUTRAL, _WITHOUT_EFFECT)
    if parsed.max_tokens is not None and parsed.max_completion_tokens is not None:
        raise invalid("max_tokens", "'max_tokens' and 'max_completion_tokens' are the same; set only one of them")
    if parsed.stream_options is not None and not parsed.stream:
        raise invalid("stream_options", "'stream_options' is only allowed together with 'stream': true")
    return ChatRequest(
        model=parsed.model,
        messages=tuple(_flat(message) for message in parsed.messages),
        max_tokens=parsed.max_completion_tokens or parsed.max_tokens,
        sampling=SamplingParameters(
            temperature=1.0 if parsed.temperature is None else parsed.temperature,
            top_p=1.0 if parsed.top_p is None else parsed.top_p,
            seed=parsed.seed,
        ),
        stops=(parsed.stop,) if isinstance(parsed.stop, str) else tuple(parsed.stop or ()),
        stream=bool(parsed.stream),
        include_usage=parsed.stream_options is not None and parsed.stream_options.include_usage,
    )


def _flat(message: _Message) -> dict[str, str]:
    content = message.content
    if not isinstance(content, str):
        content = "".join(part.text for part in content)
    # OpenAI's newer name of the system role; templates know the old one.
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": content} | ({"name": message.name} if message.name else {})
