"""Reads the bodies of `POST /v1/embeddings`, which asks for a vector of each text."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field, StrictInt

from .request_body import BodyForm, Strict
from .text_input import OneOrMore, Prompt, prompts_of

MAX_INPUTS = 2048
"""Texts of one request, as OpenAI has it."""
_WITHOUT_EFFECT = frozenset({"user"})


class VectorEncoding(Enum):
    """How a vector is written."""

    FLOAT = "float"
    """Numbers."""
    BASE64 = "base64"
    """Base64 of its little-endian float32s."""


class EmbeddingBody(Strict):
    """The body as it is sent."""

    model: str
    input: OneOrMore
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None


EMBEDDING_BODY = BodyForm(EmbeddingBody, without_effect=_WITHOUT_EFFECT)


@dataclass(frozen=True)
class EmbeddingRequest:
    """A checked request."""

    model: str
    inputs: tuple[tuple[str, Prompt], ...]
    """Each with the name that an error has for it."""
    encoding: VectorEncoding
    dimensions: int | None
    """Numbers of a vector, where the request asks for so many."""


def parse_embedding_request(body: bytes) -> EmbeddingRequest:
    """Parse and check. Raises ApiError (400) naming the parameter."""
    parsed = EMBEDDING_BODY.parse(body)
    prompts = prompts_of(parsed.input, "input", MAX_INPUTS)
    is_list = isinstance(parsed.input, list) and not isinstance(parsed.input[0], int)
    return EmbeddingRequest(
        model=parsed.model,
        inputs=tuple((f"input.{index}" if is_list else "input", prompt) for index, prompt in enumerate(prompts)),
        encoding=VectorEncoding(parsed.encoding_format or VectorEncoding.FLOAT.value),
        dimensions=parsed.dimensions,
    )
