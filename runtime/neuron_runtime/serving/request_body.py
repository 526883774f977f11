"""From a request's bytes to a checked document: whatever they are, the answer is an error object and takes little."""

import asyncio
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, ValidationError, model_validator
from starlette.requests import Request

from .api_error import ApiError, invalid, unsupported

BODY_LIMIT = 2 * 1024 * 1024
_BODY_SECONDS = 30.0
_LONGEST_NAME = 64

# The type of a model's own errors that are about what this server does not have.
UNSUPPORTED = "unsupported_parameter"

# Tags of the branches of "one or a list of them", so that an error is that of the branch that was meant.
ONE = "<one>"
LIST = "<list>"
BRANCH = Discriminator(lambda value: LIST if isinstance(value, list) else ONE)

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

# JSON can escape half of a surrogate pair, which is no character: no tokenizer takes it, no answer can repeat it.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Strict(BaseModel):
    """A JSON object that has no other names than its own."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_unknown(cls, value: Any) -> Any:
        """Of many unknown names keep the first: pydantic would make an error of each."""
        if not isinstance(value, dict) or len(value) <= len(cls.model_fields):
            return value
        unknown = next(name for name in value if name not in cls.model_fields)
        return {name: value[name] for name in (*cls.model_fields, unknown) if name in value}


M = TypeVar("M", bound=Strict)


@dataclass(frozen=True)
class BodyForm(Generic[M]):
    """A body that one operation takes."""

    model: type[M]
    neutral: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Parameters of OpenAI's that are not implemented, with the values at which they mean nothing."""
    without_effect: Collection[str] = ()
    """Parameters of OpenAI's that never mean anything here."""

    def parse(self, body: bytes) -> M:
        """The parameters that are implemented, checked. Raises ApiError (400) naming the parameter."""
        kept: dict[str, Any] = {}
        for name, value in _parse_object(body).items():
            if name in self.model.model_fields:
                kept[name] = value
            elif name in self.neutral:
                _check_neutral(name, value, self.neutral[name])
            elif name not in self.without_effect:
                raise _unknown(name)
        try:
            return self.model.model_validate(kept)
        except ValidationError as error:
            raise _invalid(error) from error

    def further_properties(self) -> dict[str, Any]:
        """JSON Schema of the parameters that are not the model's."""
        neutral = {
            name: {"enum": [*values, None], "description": "Not supported at any other value."}
            for name, values in self.neutral.items()
        }
        return neutral | {name: {"description": "Without effect."} for name in self.without_effect}


async def read_body(request: Request) -> bytes:
    """The whole body. Raises ApiError (408, 413), or ClientDisconnect."""
    try:
        return await asyncio.wait_for(_collect(request), _BODY_SECONDS)
    except asyncio.TimeoutError as error:
        raise ApiError(408, f"the body did not come within {_BODY_SECONDS:.0f} s", code="request_timeout") from error


async def _collect(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise ApiError(413, f"the body is larger than {BODY_LIMIT} bytes", code="request_too_large")
    return bytes(body)


def _parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object, all of whose text is Unicode. Raises ApiError (400)."""
    try:
        document = json.loads(body.decode())
        if _SURROGATE.search(body):
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(document, dict):
        raise ApiError(400, "the body is not a JSON object", code="invalid_json")
    return document


def _check_neutral(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    # JSON knows booleans and numbers apart; Python's comparison does not.
    if value is None or any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
        return
    neutral = " or ".join(json.dumps(one) for one in allowed)
    raise unsupported(name, f", or set it to {neutral}" if neutral else "")


def _unknown(name: str) -> ApiError:
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
    return ApiError(400, f"unknown parameter: '{shown}'", param=shown, code="unknown_parameter")


def _invalid(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_input=False)[0]
    param = ".".join(str(part) for part in first["loc"] if part not in (ONE, LIST))
    if first["type"] == "missing":
        return invalid(param, f"missing required parameter: '{param}'", "missing_required_parameter")
    if first["type"] == "extra_forbidden":
        return _unknown(param)
    code = UNSUPPORTED if first["type"] == UNSUPPORTED else "invalid_value"
    return invalid(param, f"invalid '{param}': {first['msg']}", code)
