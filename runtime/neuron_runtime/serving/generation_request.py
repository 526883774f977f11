"""The parameters that chat completions and completions have in common."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt, Tag

from .api_error import invalid
from .request_body import BRANCH, LIST, ONE, Number, Strict
from .sampling import SamplingParameters

MAX_CHOICES = 16
"""Answers that one request can ask for: each of them takes a slot."""
_MAX_STOPS = 4
_MAX_STOP_LENGTH = 256
# Far beyond any context, and short enough to be repeated in a message.
_MAX_TOKENS = 2**31 - 1
_SAMPLING = ("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "logprobs")

Stop = Annotated[str, Field(min_length=1, max_length=_MAX_STOP_LENGTH)]
TokenCount = Annotated[StrictInt, Field(ge=1, le=_MAX_TOKENS)]
Penalty = Annotated[Number, Field(ge=-2, le=2)]


class StreamOptions(Strict):
    """OpenAI's `stream_options`."""

    include_usage: StrictBool = False
    include_obfuscation: Literal[False] = False


class GenerationBody(Strict):
    """Common to all bodies that ask for text."""

    model: str
    max_tokens: TokenCount | None = None
    n: Annotated[StrictInt, Field(ge=1, le=MAX_CHOICES)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    # vLLM's extension; -1 and 0 stand for all tokens.
    top_k: Annotated[StrictInt, Field(ge=-1, le=_MAX_TOKENS)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[
        Annotated[Stop | None, Tag(ONE)]
        | Annotated[list[Stop], Field(fail_fast=True, max_length=_MAX_STOPS), Tag(LIST)],
        BRANCH,
    ] = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None


@dataclass(frozen=True)
class Options:
    """How an answer is made, checked."""

    model: str
    max_tokens: int | None
    """None: up to the end of the context."""
    choices: int
    """Answers to each prompt."""
    sampling: SamplingParameters
    logprobs: int | None
    """Alternatives that are told with each token; None: nothing is told."""
    stops: tuple[str, ...]
    stream: bool
    include_usage: bool
    as_json: bool
    """Whether the answer is to be a JSON object."""
    sampled_by: tuple[str, ...]
    """The parameters of the request that graphs cannot heed which choose tokens themselves."""


def _is_off(value: object) -> bool:
    return value is None or value is False


def options_of(body: GenerationBody, max_tokens: int | None, logprobs: int | None, *, as_json: bool = False) -> Options:
    """Put the parameters in order. Raises ApiError (400)."""
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "'stream_options' is only allowed together with 'stream': true")
    sampled_by = [name for name in _SAMPLING if not _is_off(getattr(body, name, None))]
    return Options(
        model=body.model,
        max_tokens=max_tokens,
        choices=body.n or 1,
        sampling=SamplingParameters(
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=max(0, body.top_k or 0),
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            seed=body.seed,
        ),
        logprobs=logprobs,
        stops=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        stream=bool(body.stream),
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        as_json=as_json,
        sampled_by=(*sampled_by, *(["response_format"] if as_json else [])),
    )
