"""NeuronModel, version v1alpha1: what a user writes, as frozen models.

The CRD's schema is generated from these models, so a field's docstring, default and limits are what users meet. A
field stands here only together with its behavior. A default that was released never changes: revisions leave out
whatever equals its default.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from neuron_runtime.contract.request import DType, Quantization

from .artifact_store import ArtifactStore
from .durations import DURATION_LIMIT_HOURS, DURATION_PATTERN, Duration, duration_seconds
from .fields import ApiModel, Int32, Int64, Quantity
from .model_source import ModelSource
from .objects import Key, Manifest
from .schema import remedy, rule
from .status import Status

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
NAME_LIMIT = 45

BucketLength = Annotated[Int32, Field(ge=8, le=1_048_576)]


class EngineChoice(StrEnum):
    """Library that compiles and runs the graphs."""

    AUTO = "Auto"
    CPU = "CPU"


class TargetChoice(StrEnum):
    """Hardware family that the graphs are compiled for."""

    AUTO = "Auto"
    CPU = "CPU"


class RuntimeSettings(ApiModel):
    """What compiles and runs the model."""

    engine: EngineChoice = EngineChoice.AUTO
    """Engine. Auto takes the one that fits the hardware."""


class Buckets(ApiModel):
    """Sizes that graphs are compiled for, one graph each. A graph takes what is smaller too, at its own cost."""

    context_lengths: list[BucketLength] | None = Field(
        default=None,
        min_length=1,
        max_length=8,
        json_schema_extra=rule(
            "self.isSorted() && self.all(length, self.exists_one(other, other == length))",
            "spec.shapes.buckets.contextLengths must rise, and hold no length twice, for example [16, 64, 256]",
        ),
    )
    """Tokens of a prompt that one step takes; longer prompts take several. With the task Embedding, lengths that texts
    are filled up to, completed by maxModelLength. Planned when absent."""


class ShapeLimits(ApiModel):
    """What determines the compiled graphs. Every change here compiles anew."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            "!has(self.maxModelLength) || !has(self.buckets) || !has(self.buckets.contextLengths) || "
            "self.buckets.contextLengths.all(length, length <= self.maxModelLength)",
            "spec.shapes.buckets.contextLengths must not exceed spec.shapes.maxModelLength; raise maxModelLength, or "
            "leave the longer lengths out",
        )
    )

    max_model_length: Int32 | None = Field(default=None, ge=16, le=1_048_576)
    """Tokens of prompt and answer together that one sequence can hold; with the task Embedding, those of one text.
    Planned from the model when absent."""

    max_batch_size: Int32 = Field(default=4, ge=1, le=256)
    """Sequences that are held in memory at the same time; with the task Embedding, texts of one step."""

    buckets: Buckets = Buckets()
    """Sizes that graphs are compiled for."""

    dtype: DType = DType.FLOAT32
    """Type of weights and activations."""

    quantization: Quantization = Quantization.NONE
    """Type of weights where it is to be another. Int8: matrices as int8 with a scale for each output, a quarter of the
    memory and of what a decode step reads, at the price of some precision; not for encoders."""


class HardwareChoice(ApiModel):
    """What the model runs on."""

    target: TargetChoice = TargetChoice.AUTO
    """Hardware family. Auto takes the first one that the engine supports and the model fits."""


class ResourceAmounts(ApiModel):
    """Compute resources of a container, as in a pod."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    """Amounts that the scheduler sets aside, by resource name."""

    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    """Amounts that the container may not exceed, by resource name."""


class RetryPolicy(ApiModel):
    """What happens after a failed compile."""

    max_attempts: Int32 = Field(default=3, ge=1, le=20)
    """Compile Jobs that are started for the same inputs before the model counts as failed."""


class CompileSettings(ApiModel):
    """How the compile Job runs. Nothing here changes what it makes."""

    timeout: Duration = Field(
        default="2h",
        json_schema_extra=remedy(
            "spec.compile.timeout must be hours, minutes and seconds in this order, for example 1h30m"
        )
        | rule(
            f"!self.matches('{DURATION_PATTERN}') || "
            f"(duration(self) > duration('0s') && duration(self) <= duration('{DURATION_LIMIT_HOURS}h'))",
            f"spec.compile.timeout must be longer than 0s and at most {DURATION_LIMIT_HOURS}h, for example 30m",
        ),
    )
    """Longest time that one attempt may take, for example 1h30m."""

    retry: RetryPolicy = RetryPolicy()
    """What happens after a failed compile."""

    resources: ResourceAmounts | None = None
    """Resources of the compile container. Planned from the model when absent."""

    @property
    def timeout_seconds(self) -> int:
        """`timeout` in seconds."""
        return duration_seconds(self.timeout)


class ServingSettings(ApiModel):
    """How the model is served."""

    replicas: Int32 = Field(default=1, ge=0, le=1000)
    """Serving pods. 0 stops serving and keeps the artifact."""

    resources: ResourceAmounts | None = None
    """Resources of the serving container. Planned from the model when absent."""


class NeuronModelSpec(ApiModel):
    """What is wanted. The operator never writes it."""

    model: ModelSource
    """Where the model comes from, and the name that clients ask for."""

    runtime: RuntimeSettings = RuntimeSettings()
    """What compiles and runs the model."""

    shapes: ShapeLimits = ShapeLimits()
    """What determines the compiled graphs. Every change here compiles anew."""

    hardware: HardwareChoice = HardwareChoice()
    """What the model runs on."""

    compile: CompileSettings = CompileSettings()
    """How the compile Job runs. Nothing here changes what it makes."""

    artifact_store: ArtifactStore | None = None
    """Where sources and compiled artifacts are kept. The platform's default store when absent."""

    serving: ServingSettings = ServingSettings()
    """How the model is served."""

    suspend: bool = False
    """Stops compiling and serving while true. Artifacts and revisions are kept."""


class ObjectMetadata(ApiModel):
    """The part of the metadata that the operator reads."""

    name: str = Field(pattern=NAME_PATTERN, max_length=NAME_LIMIT)
    namespace: str
    uid: str
    generation: Int64 = 1
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None


class NeuronModel(ApiModel):
    """A model that is compiled ahead of time and served on AWS Inferentia, Trainium or CPUs."""

    metadata: ObjectMetadata
    spec: NeuronModelSpec
    status: dict[str, Any] = Field(default_factory=dict)
    """As it was last written; conditions carry their transition times over from it, and nothing else is read."""

    @classmethod
    def parse(cls, manifest: Manifest) -> "NeuronModel":
        """Read an object as the API server gives it. Raises pydantic's ValidationError naming each wrong field."""
        return cls.model_validate(manifest)

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return Key(self.metadata.namespace, self.metadata.name)


class NeuronModelSchema(ApiModel):
    """A model that is compiled ahead of time and served on AWS Inferentia, Trainium or CPUs."""

    model_config = ConfigDict(
        json_schema_extra=rule(
            f"self.metadata.name.matches('{NAME_PATTERN}') && size(self.metadata.name) <= {NAME_LIMIT}",
            f"metadata.name must start with a letter, hold lower-case letters, digits and hyphens only, and have at "
            f"most {NAME_LIMIT} characters; choose another metadata.name, for example llama-3-8b",
        )
    )

    spec: NeuronModelSpec
    """What is wanted. The operator never writes it."""

    status: Status = Status()
    """What is. Written by the operator alone, and never read back."""
