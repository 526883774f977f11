"""Derives the status of a model from what one reconcile observed and found out. Pure, and the only place that does."""

from datetime import datetime
from typing import Any

from neuron_operator.api.conditions import Condition, ConditionType, Reason, set_conditions
from neuron_operator.api.fields import shortened
from neuron_operator.api.objects import Manifest
from neuron_operator.api.status import LastFailure, Phase, RevisionsStatus, ServingStatus, SourceStatus, Status
from neuron_operator.api.v1alpha1 import NeuronModel

from .observe import Observed
from .resources import names
from .resources.service import endpoint
from .revision import Revision
from .scope import Scope
from .serving_state import existing_replicas, ready_replicas, was_complete
from .steps import Continue, Fail, Step, Wait

# The message of a step stands in up to four places, and the whole status has to stay small.
_MESSAGE_LENGTH = 550
# Until a phase has been reached, its condition is unknown for this reason.
_NOT_REACHED = {
    ConditionType.SOURCE_RESOLVED: (Reason.RESOLVING, "The source is not resolved yet"),
    ConditionType.PLANNED: (Reason.PLANNING, "Planning waits for the source"),
    ConditionType.COMPILED: (Reason.LOOKING_UP, "The artifact is not looked up yet"),
}

_OWN_WORDS = ("observedGeneration", "conditions", "phase", "replicas", "selector")

# What is being done while a condition is not decided yet.
_STAGES = {
    ConditionType.SOURCE_RESOLVED: "Resolve",
    ConditionType.PLANNED: "Plan",
    ConditionType.COMPILED: "Compile",
    ConditionType.READY: "Serve",
}


def project(scope: Scope, step: Step, condition: ConditionType, word: Phase, now: datetime) -> dict[str, Any]:
    """The whole status: `step` is how far the phases came, `condition` and `word` belong to the phase it came from."""
    model, observed = scope.model, scope.observed
    ready = _ready(scope, step)
    revision = scope.revision
    active = observed.active
    deployment = observed.deployments.get(observed.active or observed.target)
    status = Status(
        observed_generation=model.metadata.generation,
        phase=_phase(scope, step, word),
        message=ready.message,
        source=revision.record.source.to_status(revision.upstream_commit) if revision is not None else _named(model),
        plan=revision.record.plan if revision is not None else None,
        artifact=scope.artifact,
        compile=scope.compile,
        last_failure=scope.failure or _last_failure(step, condition),
        revisions=RevisionsStatus(
            active=names.controller_revision(model.metadata.name, active) if active is not None else None,
            target=revision.name if revision is not None else None,
        ),
        serving=_serving(scope),
        replicas=existing_replicas(deployment),
        selector=",".join(f"{key}={value}" for key, value in sorted(_counted(observed).items())),
        waiting_for=step.waiting_for if isinstance(step, Wait) else None,
    )
    conditions = [ready, _available(scope), *_progress_conditions(scope, step, condition), *_kstatus(model, step)]
    written = set_conditions(model.status.get("conditions") or [], conditions, now)
    return {**status.to_document(), "conditions": written}


def _counted(observed: Observed) -> dict[str, str]:
    """Labels of the pods that `replicas` counts: those that answer, or are to be the first to."""
    return {
        **names.selector(observed.model.metadata.name),
        names.REVISION_LABEL: observed.active or observed.target,
    }


def _last_failure(step: Step, stopped_at: ConditionType) -> LastFailure | None:
    """A failed step as the last failure, where no container told of one in more detail."""
    if not isinstance(step, Fail):
        return None
    return LastFailure(
        stage=_STAGES[stopped_at],
        code=step.reason.value,
        message=step.cause,
        remedy=step.remedy,
        retryable=step.after is not None,
    )


def project_unreadable(manifest: Manifest, message: str, now: datetime) -> dict[str, Any]:
    """The whole status of an object whose spec this release cannot read."""
    generation = int(manifest["metadata"].get("generation", 1))
    status = Status(observed_generation=generation, phase=Phase.FAILED, message=message)
    conditions = [
        _condition(ConditionType.READY, "False", Reason.INVALID_SPEC, message, generation),
        _condition(ConditionType.STALLED, "True", Reason.INVALID_SPEC, message, generation),
    ]
    previous = (manifest.get("status") or {}).get("conditions") or []
    return {**status.to_document(), "conditions": set_conditions(previous, conditions, now)}


def without_details(status: dict[str, Any], why: str) -> dict[str, Any]:
    """What is left of a status that the API server refuses: nothing that others than the operator have a say in."""
    message = shortened(f"The details of this status are left out: {why}", _MESSAGE_LENGTH)
    return {name: status[name] for name in _OWN_WORDS if name in status} | {"message": message}


def _ready(scope: Scope, step: Step) -> Condition:
    generation = scope.model.metadata.generation
    if not isinstance(step, Continue):
        return _condition(ConditionType.READY, "False", step.reason, step.message, generation)
    wanted = scope.model.spec.serving.replicas
    if wanted == 0:
        message = "serving.replicas is 0: the artifact is kept, and nothing serves"
        return _condition(ConditionType.READY, "True", Reason.SCALED_TO_ZERO, message, generation)
    message = f"{wanted} of {wanted} replicas serve at {endpoint(scope.model)}"
    return _condition(ConditionType.READY, "True", Reason.READY, message, generation)


def _available(scope: Scope) -> Condition:
    observed, generation = scope.observed, scope.model.metadata.generation
    count = ready_replicas(observed.deployments.get(observed.active or ""))
    if count > 0 and observed.service is not None:
        message = f"{count} replicas of revision {observed.active} answer"
        return _condition(ConditionType.AVAILABLE, "True", Reason.REPLICAS_READY, message, generation)
    return _condition(ConditionType.AVAILABLE, "False", Reason.NO_READY_REPLICAS, "No replica answers", generation)


def _progress_conditions(scope: Scope, step: Step, stopped_at: ConditionType) -> list[Condition]:
    """The conditions of the way to an artifact: reached, stopped at, or not reached yet."""
    generation = scope.model.metadata.generation
    if isinstance(step, Fail) and step.condition is not None:
        stopped_at = step.condition
    conditions = []
    for kind, reached in _reached(scope).items():
        if not isinstance(step, Continue) and kind is stopped_at:
            conditions.append(_condition(kind, "False", step.reason, step.message, generation))
        elif reached is not None:
            conditions.append(_condition(kind, "True", *reached, generation))
        else:
            conditions.append(_condition(kind, "Unknown", *_NOT_REACHED[kind], generation))
    return conditions


def _reached(scope: Scope) -> dict[ConditionType, tuple[Reason, str] | None]:
    source: tuple[Reason, str] | None = None
    planned: tuple[Reason, str] | None = None
    compiled: tuple[Reason, str] | None = None
    if scope.revision is not None:
        record = scope.revision.record
        pinned = _pinned(record.source.location, record.source.commit, record.source.digest)
        source = (Reason.RESOLVED, pinned + _moved(scope.revision))
        planned = (Reason.PLANNED, record.plan.explanation or "")
    elif scope.source is not None:
        origin = scope.source.origin
        source = (Reason.RESOLVED, _pinned(origin.location, origin.commit, scope.source.digest))
    elif scope.compiled_elsewhere is not None:
        elsewhere = scope.compiled_elsewhere
        digest = elsewhere.request.source_digest
        source = (Reason.RESOLVED, _pinned(elsewhere.source_location, elsewhere.source_commit, digest))
    if scope.artifact is not None:
        reason = Reason.ARTIFACT_REUSED if scope.artifact.reused else Reason.ARTIFACT_FOUND
        compiled = (reason, f"The artifact is at {scope.artifact.uri}")
    return {
        ConditionType.SOURCE_RESOLVED: source,
        ConditionType.PLANNED: planned,
        ConditionType.COMPILED: compiled,
    }


def _named(model: NeuronModel) -> SourceStatus:
    """The source as the spec names it, until it is resolved."""
    source = model.spec.model
    if source.hugging_face is not None:
        return SourceStatus(location=source.hugging_face.repo)
    if source.persistent_volume_claim is not None:
        claim = source.persistent_volume_claim
        return SourceStatus(location=f"pvc://{claim.claim_name}/{claim.path}")
    named = source.s3 or source.compiled_artifact
    return SourceStatus(location=named.uri if named is not None else None)


def _pinned(location: str, commit: str, digest: str) -> str:
    return f"{location} is pinned to {f'commit {commit}' if commit else f'files of digest {digest}'}"


def _moved(revision: Revision) -> str:
    """That a branch has moved on, and how to follow it. Nothing is wrong with what serves."""
    if revision.upstream_commit is None:
        return ""
    return (
        f". {revision.record.source.requested_revision} names commit {revision.upstream_commit} by now; set "
        "model.huggingFace.revision to it to follow"
    )


def _kstatus(model: NeuronModel, step: Step) -> list[Condition]:
    """Reconciling or Stalled, never both; neither when there is nothing to do."""
    generation = model.metadata.generation
    if isinstance(step, Fail):
        return [_condition(ConditionType.STALLED, "True", step.reason, step.message, generation)]
    if isinstance(step, Wait) and step.reason is not Reason.SUSPENDED:
        return [_condition(ConditionType.RECONCILING, "True", step.reason, step.message, generation)]
    return []


def _phase(scope: Scope, step: Step, word: Phase) -> Phase:
    if isinstance(step, Continue):
        return Phase.READY
    observed = scope.observed
    deployment = observed.deployments.get(observed.active or "")
    answers = ready_replicas(deployment) > 0
    if isinstance(step, Fail):
        return Phase.DEGRADED if answers else Phase.FAILED
    too_few = word is Phase.LOADING and observed.active == observed.target and was_complete(deployment)
    return Phase.DEGRADED if answers and too_few else word


def _serving(scope: Scope) -> ServingStatus | None:
    observed = scope.observed
    if observed.service is None:
        return None
    deployment = observed.deployments.get(observed.active or "")
    count = ready_replicas(deployment)
    return ServingStatus(
        endpoint=endpoint(scope.model),
        deployment=deployment["metadata"]["name"] if deployment is not None else None,
        ready_replicas=count,
        replicas=f"{count}/{scope.model.spec.serving.replicas}",
    )


def _condition(kind: ConditionType, status: Any, reason: Reason, message: str, generation: int) -> Condition:
    text = shortened(message, _MESSAGE_LENGTH)
    return Condition(type=kind, status=status, reason=reason, message=text, observed_generation=generation)
