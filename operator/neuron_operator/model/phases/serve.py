"""Serves the revision: its Deployment beside the active one, and the Service's switch once it is ready."""

from dataclasses import replace

from pydantic import ValidationError

from neuron_operator.api.conditions import ConditionType, Reason
from neuron_operator.api.objects import Manifest, annotations_of
from neuron_operator.api.status import ArtifactStatus, LastFailure, WaitingFor
from neuron_operator.diagnosis.containers import Diagnosis
from neuron_operator.diagnosis.inspection import of_brought_artifact
from neuron_operator.model.jobs import JobState
from neuron_operator.model.resources.deployment import ARTIFACT_ANNOTATION, with_artifact, with_scale
from neuron_operator.model.resources.service import service
from neuron_operator.model.revision import Revision, recorded_deployment
from neuron_operator.model.scope import Scope
from neuron_operator.model.serving_state import Trouble, is_available, trouble_of
from neuron_operator.model.starting import seconds_to_create, slow_to_create
from neuron_operator.model.steps import Continue, Fail, Step, Wait, as_cause
from neuron_operator.model.tools import Tools
from neuron_runtime.contract.digests import canonical_json

# Troubles that say something about the artifact, not about the pods.
_ARTIFACT_REASONS = frozenset({Reason.ARTIFACT_DAMAGED, Reason.ARTIFACT_INCOMPATIBLE})
_MISSING_REASONS = frozenset({Reason.ARTIFACT_MISSING, Reason.SOURCE_MISSING})

_ENDED = ("Succeeded", "Failed")


async def stop_when_suspended(scope: Scope, tools: Tools) -> Step:
    """While `spec.suspend` is true: no compile runs and no pod serves. Revisions and artifacts stay."""
    if not scope.model.spec.suspend:
        return Continue()
    for job in (*scope.observed.jobs, *scope.observed.inspections):
        if job.state is JobState.LIVE:
            await tools.children.delete(job.manifest)
    for hash_, deployment in scope.observed.deployments.items():
        if hash_ in scope.observed.revisions:
            await _apply(scope, tools, scope.observed.revisions[hash_], replicas=0)
        else:
            await tools.children.scale_down(deployment)
    if any(pod["status"].get("phase") not in _ENDED for pod in scope.observed.serving_pods):
        return Wait(Reason.SUSPENDED, "spec.suspend is true: nothing is compiled, and the serving pods are ending")
    return Wait(Reason.SUSPENDED, "spec.suspend is true: nothing is compiled and nothing is served")


async def claim_service(scope: Scope, tools: Tools) -> Step:
    """Learn that the Service's name is taken before anything is compiled for it."""
    if scope.revision is None:
        await tools.children.check_free(service(scope.model, scope.observed.target))
    return Continue()


async def keep_serving(scope: Scope, tools: Tools) -> Step:
    """Keep the active revision as its record says while another one is on its way."""
    active = scope.observed.active
    if active is None or active == scope.observed.target or active not in scope.observed.revisions:
        return Continue()
    await _apply(scope, tools, scope.observed.revisions[active], replicas=scope.model.spec.serving.replicas)
    await tools.children.ensure(service(scope.model, active))
    return Continue()


async def bring_up(scope: Scope, tools: Tools) -> Step:
    """Make the target revision's Deployment, beside the active one if there is another."""
    revision, artifact = scope.revision, scope.artifact
    assert revision is not None and artifact is not None  # noqa: S101 - phases before
    replicas = scope.model.spec.serving.replicas
    scope.deployment = await _apply(scope, tools, revision, replicas=replicas, artifact=artifact)
    return Continue()


async def switch(scope: Scope, tools: Tools) -> Step:
    """Point the Service to the target revision once all its replicas are ready; where none serves yet, once one is.

    A revision that was never ready so is never the active one, which is kept until the next has taken over.
    """
    assert scope.deployment is not None  # noqa: S101 - bring_up went before
    observed, deployment = scope.observed, scope.deployment
    if observed.active == observed.target or is_available(deployment):
        await tools.children.ensure(service(scope.model, observed.target))
    if not is_available(deployment):
        return _starting(scope, tools, deployment)
    return Continue()


def recorded_artifact(revision: Revision | None, deployment: Manifest | None) -> ArtifactStatus | None:
    """Facts of the revision's artifact that its Deployment was made with."""
    if revision is None or deployment is None:
        return None
    try:
        facts = ArtifactStatus.model_validate_json(annotations_of(deployment).get(ARTIFACT_ANNOTATION, ""))
    except ValidationError:
        return None
    return facts if facts.digest == revision.record.artifact_digest else None


async def _apply(
    scope: Scope, tools: Tools, revision: Revision, *, replicas: int, artifact: ArtifactStatus | None = None
) -> Manifest:
    facts = artifact or recorded_artifact(revision, scope.observed.deployments.get(revision.hash))
    desired = with_scale(recorded_deployment(scope.model, revision), replicas)
    if facts is not None:
        desired = with_artifact(desired, canonical_json(facts.to_document()).decode())
    return await tools.children.ensure(desired)


def _starting(scope: Scope, tools: Tools, deployment: Manifest) -> Step:
    """Why the target revision is not available yet."""
    pods = scope.observed.pods_of(scope.observed.target)
    trouble = trouble_of(deployment, pods)
    if trouble is None:
        slow = slow_to_create(pods, tools.clock())
        if slow is not None:
            return Wait(Reason.LOADING, slow, waiting_for=WaitingFor(reason=Reason.LOADING.value, message=slow))
        left = seconds_to_create(pods, tools.clock())
        message = f"Deployment {deployment['metadata']['name']} waits for its pods to be ready"
        return Wait(Reason.LOADING, message, after=left)
    if trouble.diagnosis is not None:
        brought = _was_compiled_elsewhere(scope)
        diagnosis = of_brought_artifact(trouble.diagnosis) if brought else trouble.diagnosis
        trouble = replace(trouble, diagnosis=diagnosis, remedy=diagnosis.remedy)
        scope.failure = _last_failure(diagnosis)
    if trouble.reason in _MISSING_REASONS | _ARTIFACT_REASONS and _was_compiled_elsewhere(scope):
        remedy = f"Put it back as it was ({_uri(scope)}), or set model.compiledArtifact to another one"
        return Fail(trouble.reason, trouble.message, remedy, condition=ConditionType.COMPILED)
    if trouble.reason in _MISSING_REASONS:
        # look_up_artifact has followed the report up, and found it: the next start of the container will, too.
        return Wait(trouble.reason, f"{as_cause(trouble.message)}. It is there now, and the container is started again")
    if not trouble.needs_help:
        message = f"{as_cause(trouble.message)}. {trouble.remedy}"
        waiting = WaitingFor(reason=trouble.reason.value, message=message)
        return Wait(trouble.reason, message, waiting_for=waiting)
    condition = ConditionType.COMPILED if trouble.reason in _ARTIFACT_REASONS else None
    return Fail(trouble.reason, trouble.message, _remedy(scope, trouble), condition=condition)


def _remedy(scope: Scope, trouble: Trouble) -> str:
    where = f" ({_uri(scope)})" if trouble.reason in _ARTIFACT_REASONS else ""
    return f"{trouble.remedy}{where}"


def _uri(scope: Scope) -> str:
    assert scope.artifact is not None  # noqa: S101 - without it nothing is started
    return scope.artifact.uri or ""


def _was_compiled_elsewhere(scope: Scope) -> bool:
    return scope.revision is not None and scope.revision.record.artifact is not None


def _last_failure(diagnosis: Diagnosis) -> LastFailure:
    return LastFailure(
        stage="Serve",
        code=diagnosis.code,
        message=diagnosis.message,
        remedy=diagnosis.remedy,
        retryable=True,
        exit_code=diagnosis.exit_code,
        time=diagnosis.time,
        log_tail=diagnosis.log_tail,
    )
