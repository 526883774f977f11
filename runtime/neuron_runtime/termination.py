"""The end of a container: what it leaves behind for the operator, and the code that it exits with."""

import logging
from collections.abc import Mapping
from pathlib import Path

from neuron_runtime.contract.launch import TERMINATION_MESSAGE_PATH_VARIABLE
from neuron_runtime.contract.outcome import ContainerFailure, ExitCode, TerminationMessage, exit_code_of

_log = logging.getLogger(__name__)


def leave_failure(environment: Mapping[str, str], failure: ContainerFailure) -> ExitCode:
    """Log the failure, leave its termination message, and return the exit code that goes with it."""
    _log.error("%s: %s", failure.code.value, failure.message)
    leave_message(environment, TerminationMessage(code=failure.code, message=failure.message))
    return exit_code_of(failure.code)


def leave_message(environment: Mapping[str, str], message: TerminationMessage) -> None:
    """Write the termination message to where the kubelet reads it; nothing outside of a pod, where there is no path."""
    path = environment.get(TERMINATION_MESSAGE_PATH_VARIABLE)
    if not path:
        return
    try:
        Path(path).write_text(message.encode(), "utf-8")
    except OSError as error:
        # The exit code still says what happened; a failure to say more must not hide it.
        _log.warning("the termination message cannot be written to %s: %s", path, error)
