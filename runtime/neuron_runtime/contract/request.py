"""CompileRequest: all that determines a compiled artifact, and the artifact's digest made of it.

Two requests with equal digests give interchangeable artifacts. So nothing may be in here that does not change the
graphs or the transformed weights (names, namespaces, endpoints, our own version), and everything that does must be.
"""

from enum import Enum
from typing import Literal

from pydantic import Field, PositiveInt

from .digests import ContractModel, Digest, digest_of


class Engine(str, Enum):
    """Which library compiles and runs the graphs."""

    CPU = "CPU"


class Task(str, Enum):
    """What the model is asked for."""

    TEXT_GENERATION = "TextGeneration"
    EMBEDDING = "Embedding"
    """One vector for each text."""


class DType(str, Enum):
    """Type of weights and activations in the compiled graphs."""

    FLOAT32 = "Float32"


class Quantization(str, Enum):
    """How weights are stored when not in `dtype`."""

    NONE = "None"
    INT8 = "Int8"
    """Matrices as int8 with one float32 for each output. Activations stay in `dtype`."""


class Target(str, Enum):
    """Hardware family that the graphs are compiled for."""

    CPU = "CPU"


class Shapes(ContractModel):
    """Static shapes: a graph is compiled for each bucket, and nothing longer or wider can be run."""

    max_model_length: PositiveInt
    """Tokens of prompt and answer together that one sequence can hold; of an encoder, those of one text."""
    max_batch_size: PositiveInt
    """Sequences that the KV cache has room for (slots); of an encoder, the texts of one step."""
    context_lengths: tuple[PositiveInt, ...]
    """Tokens that one prefill step takes, ascending; longer prompts run in several steps. Of an encoder, the lengths
    that texts are padded to, up to `max_model_length`."""
    token_generation_batches: tuple[PositiveInt, ...]
    """Sequences that one decode step advances, ascending; of an encoder, none. Where one has more than there are
    slots, it takes tokens of prompts beside them."""


class CompileRequest(ContractModel):
    """The canonical inputs of one compilation."""

    contract_version: Literal[1] = 1
    engine: Engine
    toolchain: dict[str, str]
    """Versions and settings that code generation depends on. CPU: `torch`, `cxx` (compiler, major version), `march`,
    `graphs` (version of what the engine's graphs and their caller agree on)."""
    source_digest: Digest
    task: Task = Task.TEXT_GENERATION
    shapes: Shapes
    dtype: DType
    quantization: Quantization = Quantization.NONE
    tensor_parallel_size: PositiveInt = 1
    target: Target
    flags: tuple[str, ...] = Field(default=())

    @property
    def digest(self) -> Digest:
        """The artifact's digest: SHA-256 of this request's canonical JSON."""
        return digest_of(self.to_document())
