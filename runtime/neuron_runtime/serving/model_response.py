"""Bodies of answers that tell of the server, of its model, and of tokens."""

from typing import Literal

from typing_extensions import NotRequired, TypedDict


class Health(TypedDict):
    """Whether the process can still come to serve, or go on with it."""

    healthy: bool
    phase: str


class Readiness(TypedDict):
    """How far the server is."""

    ready: bool
    phase: str
    phaseSeconds: float
    uptimeSeconds: float
    done: NotRequired[int]
    total: NotRequired[int]
    message: NotRequired[str]


class ModelDocument(TypedDict):
    """The model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    # vLLM's extension, which clients know to look for.
    max_model_len: int


class ModelList(TypedDict):
    """All models that are served."""

    object: Literal["list"]
    data: list[ModelDocument]


class Tokenized(TypedDict):
    """Tokens of a text or of a conversation."""

    count: int
    max_model_len: int
    tokens: list[int]
