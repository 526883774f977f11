"""From a request's bytes to its answer's, whole or as a stream of events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from .api_error import ApiError
from .completion import Completion
from .disconnect import ClientGone, until_disconnect
from .generation import Generation
from .observed import CLIENT_CLOSED_REQUEST
from .preparation import Preparation
from .request_body import read_body
from .response_body import DONE, AnswerFormat, server_sent_event
from .state import Served, ServedModel

T = TypeVar("T")
M = TypeVar("M", bound=Served)

_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Prepared:
    """A request that is ready for the engine."""

    generations: tuple[Generation, ...]
    """One for each answer."""
    prompt_tokens: int
    stops: tuple[str, ...]
    stream: bool
    format: AnswerFormat


Prepare = Callable[[bytes, ServedModel], Prepared]
"""Reads a body. Raises ApiError."""


async def answer(request: Request, model: ServedModel, preparation: Preparation, prepare: Prepare) -> Response:
    """Answer one request. Raises ApiError."""
    try:
        prepared = await read_request(request, model, preparation, prepare)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    completion = Completion(
        model.scheduler, prepared.generations, prepared.prompt_tokens, model.tokenizer.decode, prepared.stops
    )
    if prepared.stream:
        return _EventStream(completion, prepared.format)
    try:
        choices = await until_disconnect(request.receive, completion.whole())
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    finally:
        completion.close()
    return JSONResponse(prepared.format.whole(choices, completion.usage))


async def answer_at_once(
    request: Request,
    model: M,
    preparation: Preparation,
    work: Callable[[bytes, M], Mapping[str, object]],
) -> Response:
    """Answer a request that needs no engine. Raises ApiError."""
    try:
        return JSONResponse(await read_request(request, model, preparation, work))
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def read_request(request: Request, model: M, preparation: Preparation, work: Callable[[bytes, M], T]) -> T:
    """What `work` makes of the body. Raises ApiError, or ClientDisconnect."""
    with preparation.place():
        body = await read_body(request)
        return await preparation.run(partial(work, body, model))


class _EventStream(Response):
    """Server-sent events.

    Nothing is sent before the first piece of text is there: a failure up to then is an error with a status of its own.
    """

    media_type = "text/event-stream"

    def __init__(self, completion: Completion, words: AnswerFormat, headers: Mapping[str, str] = _STREAM_HEADERS):
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._completion = completion
        self._format = words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_disconnect(receive, self._send(send))
        except ClientGone:
            return
        finally:
            self._completion.close()

    async def _send(self, send: Send) -> None:
        words, pieces = self._format, self._completion.pieces()
        piece = await anext(pieces, None)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await self._chunk(send, b"".join(words.first(index) for index in range(self._completion.size)))
            while piece is not None:
                if piece.text or piece.spoken:
                    await self._chunk(send, words.piece(piece))
                if piece.reason is not None:
                    await self._chunk(send, words.last(piece.index, piece.reason))
                piece = await anext(pieces, None)
        except ApiError as error:
            # The status is out; OpenAI's clients raise what they find in an event's `error`.
            await self._chunk(send, server_sent_event(error.document()))
        else:
            if words.include_usage:
                await self._chunk(send, words.usage(self._completion.usage))
            await self._chunk(send, DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @staticmethod
    async def _chunk(send: Send, body: bytes) -> None:
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
