"""Pins the model's source: to a recorded revision where there is one, else to what its origin says now.

Nothing is asked once the revision is recorded: what it holds was decided, and stays.
"""

from pydantic import ValidationError

from neuron_operator import hub
from neuron_operator.api.conditions import Reason
from neuron_operator.api.model_source import HuggingFaceSource
from neuron_operator.api.objects import CONTROLLER_REVISION
from neuron_operator.api.status import WaitingFor
from neuron_operator.model.resources import names
from neuron_operator.model.revision import controller_revision, parse_revision
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Fail, Step, Wait, as_cause
from neuron_operator.model.tools import Tools
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.inspection import SourceFacts, WeightFormat
from neuron_runtime.contract.origin import HuggingFaceOrigin
from neuron_runtime.contract.outcome import TerminationMessage
from neuron_runtime.contract.source import is_pickle, is_weights, source_digest, taken_files

from .inspect import inspect
from .serve import recorded_artifact

_HUB_PAUSE_SECONDS = 30.0
# A repository or an access right may appear without any change of the spec.
_LOOK_AGAIN_SECONDS = 300.0


async def check_records(scope: Scope, tools: Tools) -> Step:
    """Touch nothing while a revision that matters now was recorded in a form that this release does not know."""
    observed = scope.observed
    for revision in (observed.target, observed.active):
        if revision is not None and revision in observed.unreadable:
            name = names.controller_revision(scope.model.metadata.name, revision)
            remedy = (
                f"Install the release that wrote it. Deleting ControllerRevision {name} has it decided anew, which may "
                f"compile and restart pods"
            )
            return Fail(Reason.INVALID_SPEC, f"ControllerRevision {name} was written by another release", remedy)
    return Continue()


async def recall_record(scope: Scope, tools: Tools) -> Step:
    """Find the target's record by its name, should somebody have taken the labels by which the picture finds it."""
    if scope.revision is not None:
        return Continue()
    name = names.controller_revision(scope.model.metadata.name, scope.observed.target)
    live = await tools.children.find(scope.model, CONTROLLER_REVISION, name)
    if live is None:
        return Continue()
    try:
        lost = parse_revision(live)
    except ValidationError:
        return Continue()
    manifest = controller_revision(scope.model, lost.hash, lost.number, lost.record)
    scope.revision = parse_revision(await tools.children.create(manifest))
    scope.artifact = recorded_artifact(scope.revision, scope.observed.deployments.get(scope.observed.target))
    return Continue()


async def resolve_source(scope: Scope, tools: Tools) -> Step:
    """Learn what the source is now: from the platform's hub if anybody may read it there, else from an inspect Job.

    The operator reads no Secret, mounts no claim, and does not use its own rights for what a tenant names.
    """
    if scope.revision is not None:
        return Continue()
    wanted = scope.model.spec.model.hugging_face
    if wanted is not None and is_read_in_process(wanted, tools.settings):
        return await _resolve_in_process(scope, tools, wanted)
    found = await inspect(scope, tools)
    if not isinstance(found, TerminationMessage):
        return found
    scope.source, scope.compiled_elsewhere = found.source, found.artifact
    return Continue()


def is_read_in_process(source: HuggingFaceSource, settings: PlatformSettings) -> bool:
    """Whether a repository is one that the operator reads itself: of the platform's hub, without a token."""
    return source.token_secret_ref is None and source.endpoint in (
        None,
        settings.hugging_face.endpoint.rstrip("/"),
    )


async def _resolve_in_process(scope: Scope, tools: Tools, wanted: HuggingFaceSource) -> Step:
    try:
        source = await tools.hub.resolve(wanted.repo, wanted.revision)
    except hub.SourceUnreadable as error:
        remedy = "Set model.huggingFace.repo to a transformers model in safetensors"
        return _source_failure(Reason.UNSUPPORTED_FORMAT, error, remedy)
    except hub.SourceNotFound as error:
        remedy = (
            "Check model.huggingFace.repo and model.huggingFace.revision; for a private repository set "
            "model.huggingFace.tokenSecretRef"
        )
        return _source_failure(Reason.NOT_FOUND, error, remedy)
    except hub.SourceAccessDenied as error:
        remedy = "Set model.huggingFace.tokenSecretRef to a Secret with a token that was granted access"
        return _source_failure(Reason.ACCESS_DENIED, error, remedy)
    except hub.SourceRateLimited as error:
        return _wait_for_hub(Reason.RATE_LIMITED, error, "It is asked again by itself")
    except hub.SourceUnreachable as error:
        remedy = "It is asked again by itself; check platform.huggingFace.endpoint and the operator's way to it"
        return _wait_for_hub(Reason.UNREACHABLE, error, remedy)
    allow_pickle = scope.model.spec.model.allow_pickle
    files = taken_files(source.files, allow_pickle=allow_pickle)
    weights = [file.path for file in files if is_weights(file.path)]
    if not weights:
        return _without_weights(source, allow_pickle=allow_pickle)
    scope.source = SourceFacts(
        origin=HuggingFaceOrigin(repo=source.repo, commit=source.commit),
        digest=source_digest(files, allow_pickle=allow_pickle),
        size_bytes=sum(file.size for file in files),
        weights=WeightFormat.PICKLE if is_pickle(weights[0]) else WeightFormat.SAFETENSORS,
        config=dict(source.config),
    )
    return Continue()


def _without_weights(source: hub.HubSource, *, allow_pickle: bool) -> Fail:
    what = f"{source.repo} at {source.commit} holds no *.safetensors file"
    if allow_pickle:
        remedy = "Set model.huggingFace.repo to one with safetensors or pytorch_model*.bin"
        return _source_failure(Reason.UNSUPPORTED_FORMAT, f"{what} and no pytorch_model*.bin", remedy)
    remedy = "Set model.huggingFace.repo to one with safetensors"
    if any(is_pickle(file.path) for file in source.files):
        what = f"{what}, and its pickled weights are not read"
        remedy += ", or model.allowPickle: true if you trust whoever made it"
    return _source_failure(Reason.UNSUPPORTED_FORMAT, what, remedy)


def _wait_for_hub(reason: Reason, error: hub.SourceUnreachable, remedy: str) -> Wait:
    message = f"{as_cause(str(error))}. {remedy}"
    waiting = WaitingFor(reason=reason.value, message=message)
    return Wait(reason, message, after=error.after or _HUB_PAUSE_SECONDS, waiting_for=waiting)


def _source_failure(reason: Reason, what: object, remedy: str) -> Fail:
    return Fail(reason, f"{what}", remedy, after=_LOOK_AGAIN_SECONDS)
