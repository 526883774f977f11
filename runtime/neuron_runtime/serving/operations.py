"""The operations of the server's API: what each of them takes, and all that it can answer.

A new one stands here, and beside its handler in `app`; the document that the server gives of itself follows from them.
"""

from collections.abc import Mapping

from .api_error import ErrorDocument
from .chat_request import CHAT_BODY
from .chat_response import ChatCompletion, ChatCompletionChunk
from .embedding_request import EMBEDDING_BODY
from .embedding_response import Embeddings
from .model_response import Health, ModelDocument, ModelList, Readiness, Tokenized
from .openapi import Answer, Operation
from .text_request import TEXT_BODY, TOKENIZE_BODY
from .text_response import TextCompletion, TextCompletionChunk

_RETRY = {"Retry-After": "Seconds until it is worth to ask again."}


def _error(description: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(description, ErrorDocument, headers=headers or {})


_NOT_READY = {503: _error("The model is not ready, or the server shuts down.", _RETRY)}
_READING = {
    400: _error("The body is not JSON, a parameter is wrong, or more is asked for than fits; `param` names which."),
    404: _error("Another model than the one that is served, or a task that it is not served for."),
    408: _error("The body did not come in time."),
    413: _error("The body is too large."),
    429: _error("As many requests wait as may wait.", _RETRY),
    500: _error("The engine failed."),
    **_NOT_READY,
}
_STREAM = (
    "The answer. With `stream` it comes as server-sent events, of which the last one is `[DONE]`; what fails after the "
    "first of them is told in an event with an `error`."
)

HEALTHZ = Operation(
    "GET",
    "/healthz",
    "healthz",
    "Whether the process is alive",
    {200: Answer("It is.", Health), 503: Answer("Only a new process mends it.", Health)},
)
READYZ = Operation(
    "GET",
    "/readyz",
    "readyz",
    "Whether requests should be sent here, and how far the start is",
    {200: Answer("They should.", Readiness), 503: Answer("Not yet, or not any more.", Readiness)},
)
METRICS = Operation(
    "GET", "/metrics", "metrics", "Prometheus metrics", {200: Answer("Prometheus' text format.", text="text/plain")}
)
OPENAPI = Operation(
    "GET", "/openapi.json", "openapi", "This document", {200: Answer("OpenAPI 3.1.", dict[str, object])}
)
MODELS = Operation(
    "GET",
    "/v1/models",
    "listModels",
    "The model that is served",
    {200: Answer("A list of one.", ModelList), **_NOT_READY},
)
MODEL = Operation(
    "GET",
    "/v1/models/{name}",
    "retrieveModel",
    "The model of that name",
    {200: Answer("It is served.", ModelDocument), 404: _error("It is not."), **_NOT_READY},
    parameters={"name": "The model's name."},
)
CHAT_COMPLETIONS = Operation(
    "POST",
    "/v1/chat/completions",
    "createChatCompletion",
    "Answer a conversation",
    {200: Answer(_STREAM, ChatCompletion, events=ChatCompletionChunk | ErrorDocument), **_READING},
    CHAT_BODY,
)
COMPLETIONS = Operation(
    "POST",
    "/v1/completions",
    "createCompletion",
    "Continue texts",
    {200: Answer(_STREAM, TextCompletion, events=TextCompletionChunk | ErrorDocument), **_READING},
    TEXT_BODY,
)
EMBEDDINGS = Operation(
    "POST",
    "/v1/embeddings",
    "createEmbedding",
    "Vectors of texts",
    {200: Answer("A vector of each text, in their order.", Embeddings), **_READING},
    EMBEDDING_BODY,
)
TOKENIZE = Operation(
    "POST",
    "/tokenize",
    "tokenize",
    "The tokens of a text, or of a conversation as the model reads it",
    {200: Answer("The tokens.", Tokenized), **_READING},
    TOKENIZE_BODY,
)
