"""`POST /v1/chat/completions`: from the request's bytes to the answer's."""

from collections.abc import Mapping
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from .api_error import (
    ApiError,
    context_length_exceeded,
    invalid,
    model_not_found,
    prompt_too_long,
    unknown_token,
)
from .chat_request import ChatRequest, parse_chat_request
from .chat_response import DONE, ChatResponse, server_sent_event
from .chat_template import ChatTemplateError
from .completion import Completion
from .disconnect import ClientGone, until_disconnect
from .generation import Generation
from .observed import CLIENT_CLOSED_REQUEST
from .preparation import Preparation
from .request_body import read_body
from .state import ServedModel
from .tokenization import PromptTooLong

_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def answer_chat(request: Request, model: ServedModel, preparation: Preparation) -> Response:
    """Answer one request. Raises ApiError."""
    with preparation.place():
        try:
            body = await read_body(request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        chat = parse_chat_request(body)
        if chat.model != model.name:
            raise model_not_found(chat.model, model.name)
        generation = await preparation.run(partial(_generation, chat, model))
    completion = Completion(model.scheduler, generation, model.tokenizer.decode, chat.stops)
    response = ChatResponse(model=model.name, fingerprint=model.fingerprint, include_usage=chat.include_usage)
    if chat.stream:
        return _EventStream(completion, response)
    try:
        pieces = await until_disconnect(request.receive, _collect(completion))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    finally:
        completion.close()
    return JSONResponse(response.whole("".join(pieces), completion.reason, completion.usage))


def _generation(chat: ChatRequest, model: ServedModel) -> Generation:
    limits = model.scheduler.capabilities
    limit = limits.max_model_length
    try:
        prompt = model.tokenizer.encode_chat(chat.messages, limit)
    except ChatTemplateError as error:
        raise invalid("messages", str(error), "invalid_messages") from error
    except PromptTooLong as error:
        raise prompt_too_long("messages", limit) from error
    if len(prompt) > model.scheduler.prompt_limit:
        raise prompt_too_long("messages", model.scheduler.prompt_limit)
    if len(prompt) + (chat.max_tokens or 1) > limit:
        raise context_length_exceeded("messages", limit, len(prompt), chat.max_tokens or 1)
    if not prompt:
        raise invalid("messages", "the messages make an empty prompt", "invalid_messages")
    # Tokenizers can know tokens that were added after the model was trained, and that it holds no numbers for.
    if max(prompt) >= limits.vocabulary:
        raise unknown_token("messages", max(prompt), limits.vocabulary)
    return Generation(
        prompt=tuple(prompt),
        max_tokens=chat.max_tokens or limit - len(prompt),
        sampling=chat.sampling,
        end_tokens=model.tokenizer.end_tokens,
    )


async def _collect(completion: Completion) -> list[str]:
    return [piece async for piece in completion.pieces()]


class _EventStream(Response):
    """Server-sent events.

    Nothing is sent before the first piece of text is there: a failure up to then is an error with a status of its own.
    """

    media_type = "text/event-stream"

    def __init__(self, completion: Completion, response: ChatResponse, headers: Mapping[str, str] = _STREAM_HEADERS):
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._completion = completion
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await until_disconnect(receive, self._send(send))
        except ClientGone:
            return
        finally:
            self._completion.close()

    async def _send(self, send: Send) -> None:
        pieces = self._completion.pieces()
        first = await anext(pieces, "")
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await self._chunk(send, self._response.first())
            if first:
                await self._chunk(send, self._response.piece(first))
            async for piece in pieces:
                await self._chunk(send, self._response.piece(piece))
        except ApiError as error:
            # The status is out; OpenAI's clients raise what they find in an event's `error`.
            await self._chunk(send, server_sent_event(error.document()))
        else:
            await self._chunk(send, self._response.last(self._completion.reason))
            if self._response.include_usage:
                await self._chunk(send, self._response.usage(self._completion.usage))
            await self._chunk(send, DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    @staticmethod
    async def _chunk(send: Send, body: bytes) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
