"""What a container is started with: one JSON document in one environment variable.

Paths and addresses are not in the documents. They come from variables of their own, because their values belong to
the pod and not to the model:

- `NEURON_WORK_DIR`: a folder on an `emptyDir`, writable, large enough for the source and the artifact; with
  `allow_pickle` for twice the source. An inspect container needs 64 MiB there.
- `NEURON_SOURCE_DIR`: where the claim of a VolumeOrigin is mounted, read-only.
- `HF_TOKEN_PATH`: the file with the token, on an optional volume of the Secret that the document's `token` names. The
  token alone is in it; white space around it is ignored. Never the variable `HF_TOKEN`: others may read an environment.
- `TERMINATION_MESSAGE_PATH`: the container's `terminationMessagePath`.
- `BIND_ADDRESS`: the address to listen on; without it `::`, or `0.0.0.0` where IPv6 is off.
"""

from typing import Literal

from pydantic import PositiveInt

from .digests import ContractModel, Digest
from .origin import Origin, SecretKey
from .request import CompileRequest, Engine
from .store import StoreLocation

COMPILE_SPEC_VARIABLE = "NEURON_COMPILE_SPEC"
SERVING_SPEC_VARIABLE = "NEURON_SERVING_SPEC"
INSPECT_SPEC_VARIABLE = "NEURON_INSPECT_SPEC"
WORK_DIR_VARIABLE = "NEURON_WORK_DIR"
SOURCE_DIR_VARIABLE = "NEURON_SOURCE_DIR"
TOKEN_PATH_VARIABLE = "HF_TOKEN_PATH"  # noqa: S105 - the name of a variable
"""A name that huggingface_hub reads as well."""
ENDPOINT_VARIABLE = "HF_ENDPOINT"
TERMINATION_MESSAGE_PATH_VARIABLE = "TERMINATION_MESSAGE_PATH"
BIND_ADDRESS_VARIABLE = "BIND_ADDRESS"
SERVING_PORT = 8080
SERVING_GRACE_SECONDS = 60
"""A serving pod's `terminationGracePeriodSeconds`; the server's drain ends within it."""


class CompileSpec(ContractModel):
    """Input of `python -m neuron_runtime.compile`."""

    contract_version: Literal[1] = 1
    request: CompileRequest
    origin: Origin
    store: StoreLocation
    token: SecretKey | None = None
    """Present where the origin's files need a token; for a Hugging Face origin alone."""
    allow_pickle: bool = False
    """As in the InspectSpec by which `request.source_digest` was found."""
    threads: PositiveInt = 1
    """CPU threads that one graph's compilation may use."""
    workers: PositiveInt = 1
    """Graphs that are compiled at the same time, each in a process of its own."""


class ServingSpec(ContractModel):
    """Input of `python -m neuron_runtime.serve`."""

    contract_version: Literal[1] = 1
    artifact_digest: Digest
    source_digest: Digest
    engine: Engine
    store: StoreLocation
    served_name: str
    threads: PositiveInt = 1
    """CPU threads that one graph may use."""
    namespace: str | None = None
    model_name: str | None = None
