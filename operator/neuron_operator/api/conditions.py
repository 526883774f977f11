"""Conditions of a NeuronModel: their types, their reasons, and how a list of them follows the one before."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from .fields import Int64, Line, StatusModel, Timestamp


class ConditionType(StrEnum):
    """Types of conditions, in the order in which a status lists them."""

    READY = "Ready"
    """The desired generation is serving."""
    AVAILABLE = "Available"
    """Some good revision answers requests."""
    SOURCE_RESOLVED = "SourceResolved"
    """The source is pinned to a commit and its files are known."""
    PLANNED = "Planned"
    """It is decided how the model is compiled and run, and that it fits."""
    COMPILED = "Compiled"
    """The artifact is in the store."""
    RECONCILING = "Reconciling"
    """Work towards the desired generation goes on. Present only while true."""
    STALLED = "Stalled"
    """Nothing goes on until somebody changes something. Present only while true."""


class Reason(StrEnum):
    """Reasons of conditions. A released reason is never renamed."""

    READY = "Ready"
    """All wanted replicas of the desired revision are ready."""
    RESOLVING = "Resolving"
    """The source is being looked up."""
    PLANNING = "Planning"
    """The plan waits for the source."""
    WAITING_FOR_SHARED_COMPILE = "WaitingForSharedCompile"
    """Another model's compile Job makes the same artifact."""
    LOADING = "Loading"
    """Serving pods are starting or loading the artifact."""
    SUSPENDED = "Suspended"
    """`spec.suspend` is true."""
    SCALED_TO_ZERO = "ScaledToZero"
    """`spec.serving.replicas` is 0."""
    CONFLICT = "Conflict"
    """An object with a name that the operator needs belongs to somebody else."""
    INVALID_SPEC = "InvalidSpec"
    """The spec cannot be read by this version of the operator, or the API server refuses what follows from it."""
    API_SERVER_REFUSED = "APIServerRefused"
    """The API server refuses an object that the operator has to create, for example for quota or admission."""

    API_SERVER_UNREACHABLE = "APIServerUnreachable"
    """The API server does not answer, or is too busy, for an object that the operator has to read or write."""

    RESOLVED = "Resolved"
    """The source is pinned to a commit."""
    NOT_FOUND = "NotFound"
    """The source is not there: no such repository, revision, folder or claim."""
    ACCESS_DENIED = "AccessDenied"
    """The source is private or gated, and what rights there are do not suffice."""
    RATE_LIMITED = "RateLimited"
    """The hub asks to come back later."""
    UNREACHABLE = "Unreachable"
    """The hub does not answer."""
    INSPECTING = "Inspecting"
    """A Job looks at the source with the tenant's own rights."""
    INSPECTION_FAILED = "InspectionFailed"
    """The Job that looks at the source failed for a reason that is not the source's."""
    TOKEN_MISSING = "TokenMissing"  # noqa: S105 - the name of a reason
    """The Secret that `spec.model.huggingFace.tokenSecretRef` names, or its key, is not there."""
    UNSAFE_SOURCE = "UnsafeSource"
    """The source would make a reader leave its folder, or run code that is in a pickle."""
    UNSUPPORTED_FORMAT = "UnsupportedFormat"
    """The repository holds no safetensors weights or no readable configuration."""

    PLANNED = "Planned"
    """The model fits, and it is decided how it is compiled and run."""
    UNSUPPORTED_ARCHITECTURE = "UnsupportedArchitecture"
    """No engine runs models of this architecture."""
    DOES_NOT_FIT = "DoesNotFit"
    """The model does not fit the hardware or the shapes that were asked for."""
    MISSING_ARTIFACT_STORE = "MissingArtifactStore"
    """Neither the spec nor the platform names a store."""

    ARTIFACT_FOUND = "ArtifactFound"
    """The artifact that was compiled for this model is in the store."""
    ARTIFACT_REUSED = "ArtifactReused"
    """The store already held an artifact of the same inputs."""
    SERVICE_ACCOUNT_MISSING = "ServiceAccountMissing"
    """The platform makes the ServiceAccounts itself, and one is not there."""
    LOOKING_UP = "LookingUp"
    """The store is asked for the artifact."""
    JOB_PENDING = "JobPending"
    """The compile Job's pod does not run yet."""
    JOB_RUNNING = "JobRunning"
    """The compile Job's pod runs."""
    COMPILE_FAILED = "CompileFailed"
    """The compile failed, and no further attempt is made."""
    TIMED_OUT = "TimedOut"
    """The compile took longer than `spec.compile.timeout`, and no further attempt is made."""
    RETRY_PENDING = "RetryPending"
    """The last attempt failed; the next one follows after a pause."""
    ARTIFACT_DAMAGED = "ArtifactDamaged"
    """A file of the artifact is not what its manifest says."""
    ARTIFACT_MISSING = "ArtifactMissing"
    """The artifact has gone from the store."""
    SOURCE_DAMAGED = "SourceDamaged"
    """A file of the source's snapshot in the store is not what its manifest says."""
    SOURCE_MISSING = "SourceMissing"
    """The source's snapshot, which servers read beside the artifact, has gone from the store."""
    ARTIFACT_INCOMPATIBLE = "ArtifactIncompatible"
    """The artifact was made by or for something else than the serving image."""
    STORE_ACCESS_DENIED = "StoreAccessDenied"
    """The store refuses the operator's or the pods' identity."""
    STORE_BUCKET_NOT_FOUND = "StoreBucketNotFound"
    """The bucket does not exist."""
    STORE_UNREACHABLE = "StoreUnreachable"
    """The store does not answer."""

    REPLICAS_READY = "ReplicasReady"
    """At least one replica answers requests."""
    NO_READY_REPLICAS = "NoReadyReplicas"
    """No replica answers requests."""
    UNSCHEDULABLE = "Unschedulable"
    """No node has room for a pod."""
    IMAGE_PULL_FAILED = "ImagePullFailed"
    """A node cannot pull a pod's image."""
    CONTAINER_FAILING = "ContainerFailing"
    """The container of a serving pod exits again and again."""


ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(StatusModel):
    """A condition as it is derived from what was observed. When it last changed is not part of that."""

    type: Annotated[ConditionType, WithJsonSchema({"type": "string", "maxLength": 64})]
    """Type of the condition."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[Reason, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64})]
    """Stable name of the reason."""
    message: Line
    """The reason in words, with what to do about it."""
    observed_generation: Int64 = Field(ge=0)
    """Generation of the spec that the condition describes."""


class WrittenCondition(Condition):
    """A condition as a status holds it."""

    last_transition_time: Timestamp
    """When the condition's status last changed."""


_ORDER = {condition_type: position for position, condition_type in enumerate(ConditionType)}


def rfc3339(moment: datetime) -> str:
    """A moment as Kubernetes writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def set_conditions(
    previous: Sequence[dict[str, Any]], desired: Sequence[Condition], now: datetime
) -> list[dict[str, Any]]:
    """Return the list of conditions that follows the previous one.

    `lastTransitionTime` moves exactly when a condition's status changes. A type that is absent from `desired`
    disappears. Raises ValueError when a type is given twice, or Reconciling and Stalled together: clients such as
    kstatus would believe whichever they read first.
    """
    types = [condition.type for condition in desired]
    if len(set(types)) != len(types):
        raise ValueError(f"a condition type is given twice: {types}")
    if ConditionType.RECONCILING in types and ConditionType.STALLED in types:
        raise ValueError("Reconciling and Stalled exclude each other")
    before = {condition.get("type"): condition for condition in previous}
    return [
        _follow(before.get(condition.type), condition, now)
        for condition in sorted(desired, key=lambda condition: _ORDER[condition.type])
    ]


def _follow(previous: dict[str, Any] | None, condition: Condition, now: datetime) -> dict[str, Any]:
    unchanged = previous is not None and previous.get("status") == condition.status
    since = previous.get("lastTransitionTime") if previous is not None and unchanged else None
    return {**condition.to_document(), "lastTransitionTime": since or rfc3339(now)}
