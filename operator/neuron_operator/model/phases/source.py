"""From the spec to a recorded revision: resolve the source, plan, write the ControllerRevision.

These do nothing once the revision is recorded: what it holds was decided, and stays.
"""

from pydantic import ValidationError

from neuron_operator import hub
from neuron_operator.api.conditions import Reason
from neuron_operator.api.impact import revision_inputs
from neuron_operator.api.objects import CONTROLLER_REVISION
from neuron_operator.api.status import MemoryStatus, PlanStatus, WaitingFor
from neuron_operator.api.v1alpha1 import EngineChoice, NeuronModel, TargetChoice
from neuron_operator.model.resources import names
from neuron_operator.model.resources.deployment import rendered_deployment
from neuron_operator.model.revision import (
    SHARED_DOMAIN,
    RecordedSource,
    RevisionRecord,
    controller_revision,
    namespace_domain,
    parse_revision,
)
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Fail, Step, Wait, as_cause
from neuron_operator.model.tools import Tools
from neuron_operator.planning.encoder_facts import encoder_facts
from neuron_operator.planning.model_facts import model_facts
from neuron_operator.planning.planner import Plan, Wishes, plan
from neuron_operator.planning.refusal import DoesNotFit, UnsupportedModel
from neuron_operator.settings import ArtifactSharing, PlatformSettings
from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.request import CompileRequest, Engine, Quantization, Target, Task
from neuron_runtime.contract.source import taken_files
from neuron_runtime.contract.store import StoreLocation

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
    """Pin the source to a commit and learn its files."""
    if scope.revision is not None:
        return Continue()
    wanted = scope.model.spec.model.hugging_face
    try:
        source = await tools.hub.resolve(wanted.repo, wanted.revision)
    except hub.SourceUnreadable as error:
        remedy = "Set model.huggingFace.repo to a transformers model in safetensors"
        return _source_failure(Reason.UNSUPPORTED_FORMAT, error, remedy)
    except hub.SourceNotFound as error:
        return _source_failure(Reason.NOT_FOUND, error, "Check model.huggingFace.repo and model.huggingFace.revision")
    except hub.SourceAccessDenied as error:
        return _source_failure(Reason.ACCESS_DENIED, error, "Set model.huggingFace.repo to a public repository")
    except hub.SourceRateLimited as error:
        return _wait_for_hub(Reason.RATE_LIMITED, error, "It is asked again by itself")
    except hub.SourceUnreachable as error:
        remedy = "It is asked again by itself; check platform.huggingFace.endpoint and the operator's way to it"
        return _wait_for_hub(Reason.UNREACHABLE, error, remedy)
    if not any(file.path.endswith(".safetensors") for file in taken_files(source.files)):
        what = f"{source.repo} at {source.commit} holds no *.safetensors file, and other formats are not read"
        return _source_failure(Reason.UNSUPPORTED_FORMAT, what, "Set model.huggingFace.repo to one with safetensors")
    scope.source = source
    return Continue()


async def plan_model(scope: Scope, tools: Tools) -> Step:
    """Decide what is compiled and what it needs."""
    if scope.revision is not None:
        return Continue()
    if _store(scope.model, tools.settings) is None:
        remedy = "Set artifactStore.s3.bucket, or have the platform set a default store"
        return Fail(Reason.MISSING_ARTIFACT_STORE, "No artifact store is named", remedy)
    assert scope.source is not None  # noqa: S101 - resolve_source went before
    spec = scope.model.spec
    engine, target = spec.runtime.engine, spec.hardware.target
    wishes = Wishes(
        spec.shapes.max_model_length,
        spec.shapes.max_batch_size,
        spec.shapes.dtype,
        spec.shapes.quantization,
        context_lengths=tuple(spec.shapes.buckets.context_lengths or ()),
        engine=Engine(engine.value) if engine is not EngineChoice.AUTO else None,
        target=Target(target.value) if target is not TargetChoice.AUTO else None,
    )
    facts_of = encoder_facts if spec.model.task is Task.EMBEDDING else model_facts
    try:
        scope.plan = plan(facts_of(scope.source.config), wishes)
    except UnsupportedModel as error:
        return Fail(Reason.UNSUPPORTED_ARCHITECTURE, error.cause, error.remedy)
    except DoesNotFit as error:
        return Fail(Reason.DOES_NOT_FIT, error.cause, error.remedy)
    return Continue()


async def record_revision(scope: Scope, tools: Tools) -> Step:
    """Write down what was decided, before anything is done about it: a restart goes on from the record."""
    if scope.revision is not None:
        return Continue()
    record = _record(scope, tools.settings)
    number = 1 + max((revision.number for revision in scope.observed.revisions.values()), default=0)
    manifest = controller_revision(scope.model, scope.observed.target, number, record)
    scope.revision = parse_revision(await tools.children.create(manifest))
    return Continue()


def _record(scope: Scope, settings: PlatformSettings) -> RevisionRecord:
    source, chosen, store = scope.source, scope.plan, _store(scope.model, settings)
    assert source is not None and chosen is not None and store is not None  # noqa: S101 - phases before
    model = scope.model
    request = CompileRequest(
        engine=chosen.engine,
        toolchain=settings.cpu.toolchain,
        source_digest=source.digest,
        task=model.spec.model.task,
        shapes=chosen.shapes,
        dtype=chosen.dtype,
        quantization=chosen.quantization,
        target=chosen.target,
    )
    serving = ServingSpec(
        artifact_digest=request.digest,
        source_digest=source.digest,
        engine=chosen.engine,
        store=store,
        served_name=model.spec.model.served_name or model.metadata.name,
        namespace=model.metadata.namespace,
        model_name=model.metadata.name,
    )
    return RevisionRecord(
        inputs=revision_inputs(model.spec),
        source=RecordedSource(
            repo=source.repo,
            requested_revision=model.spec.model.hugging_face.revision,
            commit=source.commit,
            digest=source.digest,
            size_bytes=source.size_bytes,
        ),
        plan=_plan_status(chosen),
        request=request,
        artifact_digest=request.digest,
        store=store,
        compile_image=settings.cpu.compile_image,
        compile_memory=chosen.compile_memory,
        compile_workers=chosen.compile_workers,
        deployment=rendered_deployment(model, scope.observed.target, serving, settings, memory=chosen.memory.total),
    )


def _plan_status(chosen: Plan) -> PlanStatus:
    return PlanStatus(
        engine=chosen.engine.value,
        target=chosen.target.value,
        hardware=chosen.target.value,
        tensor_parallel_size=1,
        dtype=chosen.dtype.value,
        quantization=None if chosen.quantization is Quantization.NONE else chosen.quantization.value,
        max_model_length=chosen.shapes.max_model_length,
        max_batch_size=chosen.shapes.max_batch_size,
        context_lengths=list(chosen.shapes.context_lengths),
        token_generation_batches=list(chosen.shapes.token_generation_batches),
        memory=MemoryStatus(
            weights_bytes=chosen.memory.weights,
            kv_cache_bytes=chosen.memory.kv_cache,
            workspace_bytes=chosen.memory.workspace,
            total_bytes=chosen.memory.total,
        ),
        explanation=chosen.explanation,
    )


def _store(model: NeuronModel, settings: PlatformSettings) -> StoreLocation | None:
    shared = settings.artifact_sharing is ArtifactSharing.CLUSTER
    domain = SHARED_DOMAIN if shared else namespace_domain(model.metadata.namespace)
    own = model.spec.artifact_store
    chosen = own.s3 if own is not None else settings.default_artifact_store
    if chosen is None:
        return None
    return StoreLocation(bucket=chosen.bucket, prefix=chosen.prefix, region=chosen.region, domain=domain)


def _wait_for_hub(reason: Reason, error: hub.SourceUnreachable, remedy: str) -> Wait:
    message = f"{as_cause(str(error))}. {remedy}"
    waiting = WaitingFor(reason=reason.value, message=message)
    return Wait(reason, message, after=error.after or _HUB_PAUSE_SECONDS, waiting_for=waiting)


def _source_failure(reason: Reason, what: object, remedy: str) -> Fail:
    return Fail(reason, f"{what}", remedy, after=_LOOK_AGAIN_SECONDS)
