"""Reads the body of `POST /v1/chat/completions`.

What a parameter of OpenAI's would change here and this server cannot do is refused by name, never ignored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, Tag, model_validator
from pydantic_core import PydanticCustomError

from .api_error import invalid
from .generation_request import GenerationBody, Options, TokenCount, options_of
from .request_body import BRANCH, LIST, ONE, UNSUPPORTED, BodyForm, Strict

_MAX_MESSAGES = 2048
_MAX_PARTS = 256
_MAX_ALTERNATIVES = 20

# Parameters of OpenAI's API that are not implemented, with the values at which they mean nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}
# They say who asks, or serve the caller's bookkeeping: no answer depends on them.
_WITHOUT_EFFECT = frozenset({"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user"})


class TextPart(Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag(ONE)] | Annotated[list[TextPart], Field(fail_fast=True, max_length=_MAX_PARTS), Tag(LIST)],
        BRANCH,
    ]
    name: str | None = None


Messages = Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=_MAX_MESSAGES)]


class ResponseFormat(Strict):
    """The form that an answer has."""

    type: Literal["text", "json_object"]

    @model_validator(mode="before")
    @classmethod
    def _no_schema(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") == "json_schema":
            raise PydanticCustomError(
                UNSUPPORTED,
                "this server does not hold answers to a schema; ask for the type 'json_object', and describe the "
                "schema in a message",
            )
        return value


class ChatBody(GenerationBody):
    """The body of a request for chat completions as it is sent."""

    messages: Messages
    max_completion_tokens: TokenCount | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=_MAX_ALTERNATIVES)] | None = None
    response_format: ResponseFormat | None = None


CHAT_BODY = BodyForm(ChatBody, _NEUTRAL, _WITHOUT_EFFECT)


@dataclass(frozen=True)
class ChatRequest:
    """A checked request."""

    messages: tuple[Mapping[str, str], ...]
    """Role and text, as chat templates take them."""
    options: Options


def parse_chat_request(body: bytes) -> ChatRequest:
    """Parse and check. Raises ApiError (400) naming the parameter."""
    parsed = CHAT_BODY.parse(body)
    if parsed.max_tokens is not None and parsed.max_completion_tokens is not None:
        raise invalid("max_tokens", "'max_tokens' and 'max_completion_tokens' are the same; set only one of them")
    if parsed.top_logprobs and not parsed.logprobs:
        raise invalid("top_logprobs", "'top_logprobs' is only allowed together with 'logprobs': true")
    logprobs = parsed.top_logprobs or 0 if parsed.logprobs else None
    as_json = parsed.response_format is not None and parsed.response_format.type == "json_object"
    options = options_of(parsed, parsed.max_completion_tokens or parsed.max_tokens, logprobs, as_json=as_json)
    return ChatRequest(flat(parsed.messages), options)


def flat(messages: Sequence[Message]) -> tuple[Mapping[str, str], ...]:
    """Messages as chat templates take them."""
    return tuple(_flat(message) for message in messages)


def _flat(message: Message) -> dict[str, str]:
    content = message.content
    if not isinstance(content, str):
        content = "".join(part.text for part in content)
    # OpenAI's newer name of the system role; templates know the old one.
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": content} | ({"name": message.name} if message.name else {})
