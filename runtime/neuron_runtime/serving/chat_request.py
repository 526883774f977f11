"""Reads the body of `POST /v1/chat/completions`.

What a parameter of OpenAI's would change here and this server cannot do is refused by name, never ignored.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictInt, Tag, ValidationError

from .api_error import ApiError, invalid, unsupported
from .sampling import SamplingParameters

_MAX_STOPS = 4

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

# Tags of the branches of "one or a list of them", so that an error is that of the branch that was meant.
_ONE = "<one>"
_LIST = "<list>"
_BRANCH = Discriminator(lambda value: _LIST if isinstance(value, list) else _ONE)

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Annotated[str, Tag(_ONE)] | Annotated[list[_TextPart], Tag(_LIST)], _BRANCH]
    name: str | None = None


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: StrictBool = False
    include_obfuscation: Literal[False] = False


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str
    messages: Annotated[list[_Message], Field(min_length=1)]
    max_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[StrictInt, Field(ge=1)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    seed: StrictInt | None = None
    stop: Annotated[Annotated[str | None, Tag(_ONE)] | Annotated[list[str], Tag(_LIST)], _BRANCH] = None
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
    try:
        document = json.loads(body)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(document, dict):
        raise ApiError(400, "the body is not a JSON object", code="invalid_json")
    try:
        parsed = _Body.model_validate(_without_neutral(document))
    except ValidationError as error:
        raise _invalid(error) from error
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
        stops=_stops(parsed.stop),
        stream=bool(parsed.stream),
        include_usage=parsed.stream_options is not None and parsed.stream_options.include_usage,
    )


def _without_neutral(document: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are implemented; raises for others that would change the answer."""
    kept: dict[str, Any] = {}
    for name, value in document.items():
        if name in _Body.model_fields:
            kept[name] = value
        elif name in _NEUTRAL:
            _check_neutral(name, value)
        elif name not in _WITHOUT_EFFECT:
            raise ApiError(400, f"unknown parameter: '{name}'", param=name, code="unknown_parameter")
    return kept


def _check_neutral(name: str, value: Any) -> None:
    if value is None or value in _NEUTRAL[name]:
        return
    neutral = " or ".join(json.dumps(allowed) for allowed in _NEUTRAL[name])
    raise unsupported(name, f", or set it to {neutral}" if neutral else "")


def _flat(message: _Message) -> dict[str, str]:
    content = message.content
    if not isinstance(content, str):
        content = "".join(part.text for part in content)
    # OpenAI's newer name of the system role; templates know the old one.
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": content} | ({"name": message.name} if message.name else {})


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > _MAX_STOPS:
        raise invalid("stop", f"'stop' takes up to {_MAX_STOPS} strings, got {len(stops)}")
    if not all(stops):
        raise invalid("stop", "'stop' must not hold an empty string")
    return stops


def _invalid(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False)[0]
    location = [str(part) for part in first["loc"] if part not in (_ONE, _LIST)]
    param = ".".join(location)
    if first["type"] == "missing":
        return invalid(param, f"missing required parameter: '{param}'", "missing_required_parameter")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"unknown parameter: '{param}'", param=param, code="unknown_parameter")
    return invalid(param, f"invalid '{param}': {first['msg']}", "invalid_value")
