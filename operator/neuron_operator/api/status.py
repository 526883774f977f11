"""The `status` of a NeuronModel: a projection of what was observed, written whole and never read back.

Everything is optional: a part is there once there is something to say. Floats do not occur; sizes are bytes.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, WithJsonSchema

from .conditions import WrittenCondition
from .fields import Int32, Int64, Line, LogTail, StatusModel, Timestamp
from .schema import map_list


class Phase(StrEnum):
    """One word for people, derived from the conditions and never an input of anything."""

    PENDING = "Pending"
    """Nothing is known yet, or something outside is waited for."""
    RESOLVING = "Resolving"
    PLANNING = "Planning"
    COMPILING = "Compiling"
    LOADING = "Loading"
    READY = "Ready"
    DEGRADED = "Degraded"
    """An earlier revision or too few replicas answer."""
    SUSPENDED = "Suspended"
    FAILED = "Failed"
    """Nothing goes on until somebody changes something."""


class SourceStatus(StatusModel):
    """The model's source, once it is resolved as what it was pinned to."""

    kind: str | None = None
    """HuggingFace, S3, PersistentVolumeClaim or CompiledArtifact."""
    location: Line | None = None
    """Where it lies: a repository id, s3://bucket/folder, or pvc://claim/folder."""
    requested_revision: str | None = None
    """Branch, tag or commit that the spec names."""
    commit: str | None = None
    """Commit that it was pinned to."""
    upstream_commit: str | None = None
    """Another commit that the branch or tag names by now. It is not followed by itself: setting
    model.huggingFace.revision to it makes a new revision."""
    digest: str | None = None
    """Digest of the files that are taken."""
    size_bytes: Int64 | None = None
    """Size of the files that are taken, in bytes."""


class MemoryStatus(StatusModel):
    """Memory that one replica needs, as planned."""

    weights_bytes: Int64
    """Weights, in bytes."""
    kv_cache_bytes: Int64
    """Key-value cache for all sequences, in bytes."""
    workspace_bytes: Int64
    """Graphs, activations and the process itself, in bytes."""
    total_bytes: Int64
    """All together, in bytes."""


class PlanStatus(StatusModel):
    """How the model is compiled and run."""

    engine: str | None = None
    """Engine in use."""
    target: str | None = None
    """Hardware family that the graphs are compiled for."""
    hardware: str | None = None
    """Hardware in one word."""
    tensor_parallel_size: Int32 | None = None
    """Cores that one replica spreads over."""
    dtype: str | None = None
    """Type of weights and activations."""
    quantization: str | None = None
    """Type of weights where it is another; absent where it is not."""
    max_model_length: Int32 | None = None
    """Tokens of prompt and answer together that one sequence can hold."""
    max_batch_size: Int32 | None = None
    """Sequences that are held in memory at the same time."""
    context_lengths: list[int] | None = Field(default=None, max_length=64)
    """Tokens that one prefill step takes, one graph each."""
    token_generation_batches: list[int] | None = Field(default=None, max_length=64)
    """Sequences that one decode step advances, one graph each; the largest takes tokens of prompts beside them."""
    memory: MemoryStatus | None = None
    """Memory that one replica needs."""
    explanation: Line | None = None
    """Why this plan, in one sentence."""


class ArtifactStatus(StatusModel):
    """The compiled artifact."""

    digest: str | None = None
    """Digest of everything that determines the artifact."""
    uri: str | None = None
    """Where it lies."""
    size_bytes: Int64 | None = None
    """Size of all its files, in bytes."""
    created_at: Timestamp | None = None
    """When it was compiled."""
    reused: bool | None = None
    """Whether it was found in the store instead of compiled for this model."""


class CompileStatus(StatusModel):
    """The compile Job that runs, or ran last."""

    job: str | None = None
    """Name of the Job."""
    attempt: Int32 | None = None
    """Number of the attempt, from 1."""
    max_attempts: Int32 | None = None
    """Attempts that are made before the model counts as failed."""
    stage: str | None = None
    """What the Job is doing."""
    percent: Int32 | None = None
    """Share of the stage that is done."""
    eta_seconds: Int64 | None = None
    """Seconds until the stage ends, as estimated."""
    started_at: Timestamp | None = None
    """When the attempt started."""


class LastFailure(StatusModel):
    """The last thing that went wrong, kept until it is overcome."""

    stage: str
    """What was being done."""
    code: str
    """Stable name of the cause."""
    message: Line
    """What happened."""
    remedy: Line | None = None
    """What to do about it."""
    retryable: bool | None = None
    """Whether the operator tries again by itself."""
    attempt: Int32 | None = None
    """Number of the attempt that failed."""
    exit_code: Int32 | None = None
    """Exit code of the container."""
    time: Timestamp | None = None
    """When it happened."""
    log_tail: LogTail | None = None
    """The end of the container's log."""


class RevisionsStatus(StatusModel):
    """Revisions of the model, by name of their ControllerRevision."""

    active: str | None = None
    """The revision that answers requests."""
    target: str | None = None
    """The revision that the spec asks for."""


class ServingStatus(StatusModel):
    """What answers requests."""

    endpoint: str | None = None
    """Address of the OpenAI-compatible API inside the cluster."""
    deployment: str | None = None
    """Name of the Deployment behind the endpoint."""
    ready_replicas: Int32 | None = None
    """Serving pods that are ready."""
    replicas: str | None = None
    """Ready and wanted serving pods, for example 1/2."""


class WaitingFor(StatusModel):
    """Something outside the operator's hands that is waited for."""

    reason: str
    """Stable name of what is missing."""
    message: Line
    """What is missing, and how to provide it."""


class Status(StatusModel):
    """What is. Written by the operator alone, and never read back."""

    observed_generation: Int64 = -1
    """Generation of the spec that everything here describes. -1 until the operator has seen the object."""
    conditions: list[WrittenCondition] | None = Field(default=None, max_length=16, json_schema_extra=map_list("type"))
    """What holds and what does not, each with its reason."""
    phase: Annotated[Phase, WithJsonSchema({"type": "string", "maxLength": 32})] | None = None
    """The conditions in one word, for people."""
    message: Line | None = None
    """What is happening or what to do, in one line, for people."""
    source: SourceStatus | None = None
    """The model's source as it was resolved."""
    plan: PlanStatus | None = None
    """How the model is compiled and run."""
    artifact: ArtifactStatus | None = None
    """The compiled artifact."""
    compile: CompileStatus | None = None
    """The compile Job that runs, or ran last."""
    last_failure: LastFailure | None = None
    """The last thing that went wrong, kept until it is overcome."""
    revisions: RevisionsStatus | None = None
    """Revisions of the model, by name of their ControllerRevision."""
    serving: ServingStatus | None = None
    """What answers requests."""
    replicas: Int32 | None = None
    """Serving pods that exist, for the scale subresource."""
    selector: str | None = None
    """Label selector of the serving pods, for the scale subresource."""
    waiting_for: WaitingFor | None = None
    """Something outside the operator's hands that is waited for."""
