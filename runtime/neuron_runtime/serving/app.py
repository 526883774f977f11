"""The server's routes. Probes answer from the first moment; the API says 503 until the model is ready."""

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any, cast

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from . import operations
from .answering import answer, answer_at_once
from .api_error import ApiError, internal, model_not_found, unavailable, unsupported_task
from .embeddings import answer_embeddings
from .metrics import Metrics
from .model_response import Health, ModelDocument, ModelList
from .observed import Observed
from .openapi import Operation, openapi_document
from .preparation import Preparation
from .prompts import prepare_chat, prepare_text, tokenize
from .state import Served, ServedEncoder, ServedModel, ServerState

_TITLE = "neuron-operator's serving container"
_RETRY_SECONDS = 5

_Handler = Callable[[Request], Awaitable[Response]]


def build_app(state: ServerState, metrics: Metrics) -> ASGIApp:
    """The ASGI application of one server."""
    routes = _Routes(state, metrics)
    app = Starlette(
        routes=[
            Route(operation.route, handler, methods=[operation.method])
            for operation, handler in routes.by_operation.items()
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _unexpected},
    )
    # All other paths are the caller's: as a label, each new one would be a time series.
    paths = frozenset(operation.path for operation in routes.by_operation if not operation.parameters)
    return Observed(app, metrics, paths)


class _Routes:
    def __init__(self, state: ServerState, metrics: Metrics) -> None:
        self._state = state
        self._metrics = metrics
        self._preparation = Preparation()
        self.by_operation: Mapping[Operation, _Handler] = {
            operations.HEALTHZ: self.healthz,
            operations.READYZ: self.readyz,
            operations.METRICS: self.metrics,
            operations.OPENAPI: self.openapi,
            operations.MODELS: self.models,
            operations.MODEL: self.model,
            operations.CHAT_COMPLETIONS: self.chat_completions,
            operations.COMPLETIONS: self.completions,
            operations.EMBEDDINGS: self.embeddings,
            operations.TOKENIZE: self.tokenize,
        }

    async def healthz(self, _request: Request) -> Response:
        healthy = self._state.healthy
        document: Health = {"healthy": healthy, "phase": self._state.phase.value}
        return JSONResponse(document, 200 if healthy else 503)

    async def readyz(self, _request: Request) -> Response:
        document = self._state.document()
        return JSONResponse(document, 200 if document["ready"] else 503)

    async def metrics(self, _request: Request) -> Response:
        self._metrics.ready.set(self._state.ready)
        return Response(self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, _request: Request) -> Response:
        return JSONResponse(await self._preparation.run(lambda: self._openapi))

    async def models(self, _request: Request) -> Response:
        document: ModelList = {"object": "list", "data": [_model_document(self._model())]}
        return JSONResponse(document)

    async def model(self, request: Request) -> Response:
        model, asked = self._model(), request.path_params["name"]
        if asked != model.name:
            raise model_not_found(asked, model.name)
        return JSONResponse(_model_document(model))

    async def chat_completions(self, request: Request) -> Response:
        return await answer(request, self._generator(request), self._preparation, prepare_chat)

    async def completions(self, request: Request) -> Response:
        return await answer(request, self._generator(request), self._preparation, prepare_text)

    async def embeddings(self, request: Request) -> Response:
        return await answer_embeddings(request, self._encoder(request), self._preparation)

    async def tokenize(self, request: Request) -> Response:
        return await answer_at_once(request, self._model(), self._preparation, tokenize)

    @cached_property
    def _openapi(self) -> dict[str, Any]:
        # It takes a tenth of a second, and few ask for it.
        return openapi_document(_TITLE, tuple(self.by_operation))

    def _generator(self, request: Request) -> ServedModel:
        model = self._model()
        if not isinstance(model, ServedModel):
            raise unsupported_task(model.name, model.task.value, request.url.path)
        return model

    def _encoder(self, request: Request) -> ServedEncoder:
        model = self._model()
        if not isinstance(model, ServedEncoder):
            raise unsupported_task(model.name, model.task.value, request.url.path)
        return model

    def _model(self) -> Served:
        model = self._state.model
        if model is None:
            raise unavailable(f"it is not ready (phase {self._state.phase.value})", _RETRY_SECONDS)
        return model


def _model_document(model: Served) -> ModelDocument:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "neuron-operator",
        "max_model_len": model.max_length,
    }


async def _api_error(_request: Request, error: Exception) -> Response:
    # Starlette's type for handlers does not say which exception; the table above does.
    answer = cast(ApiError, error)
    return JSONResponse(answer.document(), answer.status, answer.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    refused = cast(HTTPException, error)
    message = f"{request.method} {request.url.path}: {refused.detail}"
    return JSONResponse(ApiError(refused.status_code, message).document(), refused.status_code, refused.headers)


async def _unexpected(_request: Request, _error: Exception) -> Response:
    error = internal("the server failed to answer; its log says why")
    return JSONResponse(error.document(), error.status)
