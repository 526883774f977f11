"""Errors as OpenAI's API words them."""

from collections.abc import Mapping

from typing_extensions import TypedDict


class ErrorObject(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(TypedDict):
    """The body of an error."""

    error: ErrorObject


_RESTART_SECONDS = 10


class ApiError(Exception):
    """An answer other than success: an HTTP status and OpenAI's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def document(self) -> ErrorDocument:
        """The body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(param: str, message: str, code: str | None = None) -> ApiError:
    """A parameter that is wrong (400)."""
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str, neutral: str) -> ApiError:
    """A parameter of OpenAI's that this server does not have (400): leaving it out silently would change answers."""
    return ApiError(
        400,
        f"'{param}' is not supported by this server; leave it out{neutral}",
        param=param,
        code="unsupported_parameter",
    )


def model_not_found(asked: str, served: str) -> ApiError:
    """The request names another model than the one that is served (404)."""
    return ApiError(
        404, f"the model '{asked}' does not exist here; '{served}' is served", param="model", code="model_not_found"
    )


def unsupported_task(model: str, task: str, path: str) -> ApiError:
    """The model is there, for another kind of request (404)."""
    return ApiError(
        404,
        f"the model '{model}' is served for the task {task}, which has no {path}",
        param="model",
        code="unsupported_task",
    )


def context_length_exceeded(param: str, limit: int, prompt: int, completion: int) -> ApiError:
    """Prompt and answer do not fit into the context that was compiled (400)."""
    return invalid(
        param,
        f"this model's maximum context length is {limit} tokens, but {prompt + completion} were asked for "
        f"({prompt} in '{param}', {completion} for the answer); shorten one of them, or raise "
        "spec.shapes.maxModelLength of the model",
        "context_length_exceeded",
    )


def prompt_too_long(param: str, limit: int) -> ApiError:
    """The prompt alone has more tokens than can be run (400)."""
    return invalid(
        param,
        f"a prompt can have up to {limit} tokens here, and '{param}' holds more; shorten it, or raise "
        "spec.shapes.maxModelLength of the model",
        "context_length_exceeded",
    )


def text_too_long(param: str, limit: int) -> ApiError:
    """A text has more tokens than the encoder's graphs take (400)."""
    return invalid(
        param,
        f"a text can have up to {limit} tokens here, those at its ends counted, and '{param}' holds more; shorten it, "
        "or raise spec.shapes.maxModelLength of the model",
        "context_length_exceeded",
    )


def unknown_token(param: str, token: int, vocabulary: int) -> ApiError:
    """The prompt holds a token that the model's weights do not know (400)."""
    return invalid(
        param,
        f"'{param}' holds token {token}, but the model knows only those below {vocabulary}",
        "unknown_token",
    )


def overloaded(retry_after: int) -> ApiError:
    """The queue is full (429)."""
    return ApiError(
        429,
        f"the server's queue is full; retry in {retry_after} s",
        kind="rate_limit_error",
        code="queue_full",
        headers={"Retry-After": str(retry_after)},
    )


def unavailable(reason: str, retry_after: int) -> ApiError:
    """The server cannot answer now: it loads, or it shuts down (503)."""
    return ApiError(
        503,
        f"the server cannot answer now: {reason}",
        kind="server_error",
        code="not_ready",
        headers={"Retry-After": str(retry_after)},
    )


def shutting_down() -> ApiError:
    """The server ends (503)."""
    return unavailable("it shuts down", _RESTART_SECONDS)


def internal(message: str) -> ApiError:
    """The engine failed (500)."""
    return ApiError(500, message, kind="server_error", code="internal_error")
