"""What a container is started with: one JSON document in one environment variable.

Paths and addresses are not in the documents. They come from variables of their own, because their values belong to
the pod and not to the model:

- `NEURON_WORK_DIR`: a folder on an `emptyDir`, writable, large enough for the source and the artifact.
- `TERMINATION_MESSAGE_PATH`: the container's `terminationMessagePath`.
- `BIND_ADDRESS`: the address to listen on; without it `::`, or `0.0.0.0` where IPv6 is off.
"""

from typing import Literal

from pydantic import PositiveInt

from .digests import ContractModel, Digest
from .request import CompileRequest, Engine
from .store import StoreLocation

COMPILE_SPEC_VARIABLE = "NEURON_COMPILE_SPEC"
SERVING_SPEC_VARIABLE = "NEURON_SERVING_SPEC"
WORK_DIR_VARIABLE = "NEURON_WORK_DIR"
TERMINATION_MESSAGE_PATH_VARIABLE = "TERMINATION_MESSAGE_PATH"
BIND_ADDRESS_VARIABLE = "BIND_ADDRESS"
SERVING_PORT = 8080
SERVING_GRACE_SECONDS = 60
"""A serving pod's `terminationGracePeriodSeconds`; the server's drain ends within it."""


class HuggingFaceOrigin(ContractModel):
    """A repository of a Hugging Face hub at one commit. `HF_ENDPOINT` in the environment names another hub."""

    kind: Literal["HuggingFace"] = "HuggingFace"
    repo: str
    commit: str


class CompileSpec(ContractModel):
    """Input of `python -m neuron_runtime.compile`."""

    contract_version: Literal[1] = 1
    request: CompileRequest
    origin: HuggingFaceOrigin
    store: StoreLocation
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
