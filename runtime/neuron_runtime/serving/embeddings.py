"""From the bytes of a request for embeddings to its answer's."""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from neuron_runtime.engines.base import Vectors

from .admission import QueueFull
from .answering import read_request
from .api_error import internal, invalid, model_not_found, overloaded, shutting_down, text_too_long, unknown_token
from .disconnect import ClientGone, until_disconnect
from .embedding_request import VectorEncoding, parse_embedding_request
from .embedding_response import VECTORS_PER_PIECE, embeddings_body
from .encoding import Encoded, EncodingEvent, Text
from .encoding_scheduler import EncodingScheduler
from .generation import Failed
from .observed import CLIENT_CLOSED_REQUEST
from .preparation import Preparation
from .session_thread import SchedulerClosed
from .state import ServedEncoder
from .text_input import Prompt
from .tokenization import PromptTooLong

_JSON = "application/json"


@dataclass(frozen=True)
class PreparedTexts:
    """A request that is ready for the engine."""

    texts: tuple[Text, ...]
    encoding: VectorEncoding


async def answer_embeddings(request: Request, model: ServedEncoder, preparation: Preparation) -> Response:
    """Answer one request. Raises ApiError."""
    try:
        prepared = await read_request(request, model, preparation, prepare_embeddings)
        vectors = await until_disconnect(request.receive, _encoded(model.scheduler, prepared.texts))
    except (ClientDisconnect, ClientGone):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    tokens = sum(map(len, prepared.texts))
    pieces = embeddings_body(vectors, prepared.encoding, model.name, tokens)
    if len(vectors) <= VECTORS_PER_PIECE:
        return Response(b"".join(pieces), media_type=_JSON)
    return StreamingResponse(pieces, media_type=_JSON)


def prepare_embeddings(body: bytes, model: ServedEncoder) -> PreparedTexts:
    """Read a body, and make tokens of its texts. Raises ApiError."""
    asked = parse_embedding_request(body)
    if asked.model != model.name:
        raise model_not_found(asked.model, model.name)
    made = model.scheduler.capabilities.dimensions
    if asked.dimensions not in (None, made):
        message = f"the model's vectors have {made} dimensions, and are not cut to {asked.dimensions}; leave it out"
        raise invalid("dimensions", message, "invalid_dimensions")
    return PreparedTexts(tuple(_text(param, prompt, model) for param, prompt in asked.inputs), asked.encoding)


def _text(param: str, prompt: Prompt, model: ServedEncoder) -> Text:
    if not prompt:
        raise invalid(param, f"'{param}' is empty", "invalid_input")
    limits = model.scheduler.capabilities
    try:
        tokens = (
            model.tokenizer.encode_text(prompt, limits.max_length, special=True) if isinstance(prompt, str) else prompt
        )
    except PromptTooLong as error:
        raise text_too_long(param, limits.max_length) from error
    if not tokens:
        raise invalid(param, f"'{param}' makes no tokens", "invalid_input")
    if len(tokens) > limits.max_length:
        raise text_too_long(param, limits.max_length)
    if max(tokens) >= limits.vocabulary:
        raise unknown_token(param, max(tokens), limits.vocabulary)
    return tokens


async def _encoded(scheduler: EncodingScheduler, texts: tuple[Text, ...]) -> Vectors:
    """The vectors of texts; gives them up when it is cancelled. Raises ApiError (429, 500, 503)."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[EncodingEvent] = loop.create_future()

    def hear(event: EncodingEvent) -> None:
        if not heard.done():
            heard.set_result(event)

    def sink(event: EncodingEvent) -> None:
        # The loop is closed when the process is about to end; then nobody waits for the event.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(hear, event)

    try:
        ticket = scheduler.submit(texts, sink)
    except QueueFull as error:
        raise overloaded(error.retry_after) from error
    except SchedulerClosed as error:
        raise shutting_down() from error
    try:
        event = await heard
    finally:
        ticket.cancel()
    if isinstance(event, Encoded):
        return event.vectors
    raise internal(event.message) if isinstance(event, Failed) else shutting_down()
