"""The token of a hub: from a file on a volume of a Secret, never from a variable that other processes could read."""

from collections.abc import Mapping
from pathlib import Path

from neuron_runtime.contract.launch import TOKEN_PATH_VARIABLE
from neuron_runtime.contract.origin import SecretKey
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode

_LONGEST = 8192


def read_token(environment: Mapping[str, str], secret: SecretKey | None) -> str | None:
    """The token, or None where the document asks for none. Raises ContainerFailure(SOURCE_TOKEN_MISSING)."""
    if secret is None:
        return None
    path = environment.get(TOKEN_PATH_VARIABLE)
    if not path:
        raise ContainerFailure(FailureCode.INVALID_SPEC, f"{TOKEN_PATH_VARIABLE} is not set, but a token is asked for")
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LONGEST + 1)
    except FileNotFoundError as error:
        raise _missing(secret, "is not there") from error
    except OSError as error:
        raise _missing(secret, f"cannot be read ({error.strerror})") from error
    try:
        token = content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _missing(secret, "holds something that is no token") from None
    if not token:
        raise _missing(secret, "is empty")
    if len(content) > _LONGEST or not token.isprintable() or " " in token:
        raise _missing(secret, "holds something that is no token")
    return token


def _missing(secret: SecretKey, finding: str) -> ContainerFailure:
    # Short: a status tells it together with the remedy.
    command = f"kubectl create secret generic {secret.secret} --from-file={secret.key}=<file with the token>"
    return ContainerFailure(
        FailureCode.SOURCE_TOKEN_MISSING,
        f"key {secret.key} of Secret {secret.secret} (spec.model.huggingFace.tokenSecretRef) {finding}: {command}",
    )
