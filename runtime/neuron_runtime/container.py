"""What the containers share: how they learn what to do, and how they end."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from pydantic import ValidationError

from neuron_runtime.contract import request
from neuron_runtime.contract.digests import ContractModel
from neuron_runtime.contract.launch import TERMINATION_MESSAGE_PATH_VARIABLE
from neuron_runtime.contract.outcome import ContainerFailure, ExitCode, FailureCode, TerminationMessage, exit_code_of

if TYPE_CHECKING:
    from neuron_runtime.engines.base import Engine

OpenEngine = Callable[[request.Engine], "Engine"]
S = TypeVar("S", bound=ContractModel)

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_log = logging.getLogger(__name__)


def variable(environment: Mapping[str, str], name: str) -> str:
    """A variable that must be set. Raises ContainerFailure(INVALID_SPEC)."""
    value = environment.get(name)
    if not value:
        raise ContainerFailure(FailureCode.INVALID_SPEC, f"{name} is not set")
    return value


def read_spec(environment: Mapping[str, str], name: str, kind: type[S]) -> S:
    """The document in a variable. Raises ContainerFailure(INVALID_SPEC)."""
    try:
        return kind.model_validate_json(variable(environment, name))
    except ValidationError as error:
        raise ContainerFailure(FailureCode.INVALID_SPEC, f"{name} cannot be read: {error}") from error


def failure_of(error: Exception) -> ContainerFailure:
    """An error as a failure with a code: its own, or that of an error that nobody foresaw."""
    if isinstance(error, ContainerFailure):
        return error
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return ContainerFailure(FailureCode.OUT_OF_DISK, f"no space is left for the container's files: {error}")
    return ContainerFailure(FailureCode.INTERNAL, f"{type(error).__name__}: {error}")


def run_as_container(work: Callable[[], TerminationMessage | None], environment: Mapping[str, str]) -> NoReturn:
    """Do the container's work, leave behind what became of it, and end the process."""
    code = ExitCode.OK
    try:
        message = work()
        if message is not None:
            _leave(environment, message)
    except Exception as error:  # the operator should read what happened even when nobody foresaw it
        failure = failure_of(error)
        if failure.code is FailureCode.INTERNAL:
            _log.error("unexpected failure", exc_info=error)
        _log.error("%s: %s", failure.code.value, failure.message)
        _leave(
            environment,
            TerminationMessage(
                code=failure.code, message=failure.message, retry_after_seconds=failure.retry_after_seconds
            ),
        )
        code = exit_code_of(failure.code)
    end_process(code)


def end_process(code: int) -> NoReturn:
    """End at once. Not by sys.exit, which joins threads: a transfer or a native call may take its time."""
    sys.stdout.flush()
    logging.shutdown()
    os._exit(code)


def _leave(environment: Mapping[str, str], message: TerminationMessage) -> None:
    """Write the termination message to where the kubelet reads it; nothing outside of a pod, where there is no path."""
    path = environment.get(TERMINATION_MESSAGE_PATH_VARIABLE)
    if not path:
        return
    try:
        Path(path).write_text(message.encode(), "utf-8")
    except OSError as error:
        # The exit code still says what happened; a failure to say more must not hide it.
        _log.warning("the termination message cannot be written to %s: %s", path, error)
