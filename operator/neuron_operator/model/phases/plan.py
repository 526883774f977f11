"""From a resolved source to a recorded revision: plan, and write the ControllerRevision.

These do nothing once the revision is recorded.
"""

from dataclasses import replace

from neuron_operator.api.conditions import Reason
from neuron_operator.api.impact import revision_inputs
from neuron_operator.api.status import ArtifactStatus, MemoryStatus, PlanStatus
from neuron_operator.api.v1alpha1 import EngineChoice, NeuronModel, ShapeLimits, TargetChoice
from neuron_operator.model.resources.deployment import rendered_deployment
from neuron_operator.model.resources.inspect_job import artifact_location
from neuron_operator.model.revision import (
    SHARED_DOMAIN,
    RecordedSource,
    RevisionRecord,
    controller_revision,
    namespace_domain,
    parse_revision,
)
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Fail, Step
from neuron_operator.model.tools import Tools
from neuron_operator.planning.encoder_facts import encoder_facts
from neuron_operator.planning.model_facts import model_facts
from neuron_operator.planning.planner import Plan, Wishes, plan
from neuron_operator.planning.refusal import DoesNotFit, UnsupportedModel
from neuron_operator.settings import ArtifactSharing, PlatformSettings
from neuron_runtime.contract.inspection import ArtifactFacts, SourceFacts
from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.origin import HuggingFaceOrigin
from neuron_runtime.contract.request import CompileRequest, Engine, Quantization, Target, Task
from neuron_runtime.contract.store import StoreLocation


async def plan_model(scope: Scope, tools: Tools) -> Step:
    """Decide what is compiled and what it needs; of an artifact that was compiled elsewhere, what serving it needs."""
    if scope.revision is not None:
        return Continue()
    compiled = scope.compiled_elsewhere
    if compiled is not None:
        refusal = _contradiction(scope.model, compiled, tools.settings)
        if refusal is not None:
            return refusal
        task, wishes, config = compiled.request.task, _wishes_of_artifact(compiled.request), compiled.config
    else:
        if _store(scope.model, tools.settings) is None:
            remedy = "Set artifactStore.s3.bucket, or have the platform set a default store"
            return Fail(Reason.MISSING_ARTIFACT_STORE, "No artifact store is named", remedy)
        assert scope.source is not None  # noqa: S101 - resolve_source went before
        task, wishes, config = scope.model.spec.model.task, _wishes(scope.model), scope.source.config
    facts_of = encoder_facts if task is Task.EMBEDDING else model_facts
    try:
        scope.plan = plan(facts_of(config), wishes)
    except UnsupportedModel as error:
        return Fail(Reason.UNSUPPORTED_ARCHITECTURE, error.cause, error.remedy)
    except DoesNotFit as error:
        return Fail(Reason.DOES_NOT_FIT, error.cause, error.remedy)
    if compiled is not None:
        explanation = "The artifact was compiled elsewhere and is served as it is."
        scope.plan = replace(scope.plan, shapes=compiled.request.shapes, explanation=explanation)
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


def _wishes(model: NeuronModel) -> Wishes:
    spec = model.spec
    engine, target = spec.runtime.engine, spec.hardware.target
    return Wishes(
        spec.shapes.max_model_length,
        spec.shapes.max_batch_size,
        spec.shapes.dtype,
        spec.shapes.quantization,
        context_lengths=tuple(spec.shapes.buckets.context_lengths or ()),
        engine=Engine(engine.value) if engine is not EngineChoice.AUTO else None,
        target=Target(target.value) if target is not TargetChoice.AUTO else None,
    )


def _wishes_of_artifact(request: CompileRequest) -> Wishes:
    return Wishes(
        request.shapes.max_model_length,
        request.shapes.max_batch_size,
        request.dtype,
        request.quantization,
        context_lengths=request.shapes.context_lengths,
        engine=request.engine,
        target=request.target,
    )


def _contradiction(model: NeuronModel, compiled: ArtifactFacts, settings: PlatformSettings) -> Fail | None:
    """Why an artifact cannot serve what the spec says. What the spec leaves to its defaults is the artifact's own."""
    spec, request = model.spec, compiled.request
    shapes, default = spec.shapes, ShapeLimits()
    asked = {
        "model.task": (spec.model.task.value, request.task.value),
        "shapes.maxModelLength": (shapes.max_model_length, request.shapes.max_model_length),
        "shapes.buckets.contextLengths": (shapes.buckets.context_lengths, list(request.shapes.context_lengths)),
        # The API server writes defaults out: one that was asked for cannot be told from one that nobody thought of.
        "shapes.maxBatchSize": (
            shapes.max_batch_size if shapes.max_batch_size != default.max_batch_size else None,
            request.shapes.max_batch_size,
        ),
        "shapes.dtype": (shapes.dtype.value if shapes.dtype is not default.dtype else None, request.dtype.value),
        "shapes.quantization": (
            shapes.quantization.value if shapes.quantization is not default.quantization else None,
            request.quantization.value,
        ),
    }
    for field, (wanted, found) in asked.items():
        if wanted is not None and wanted != found:
            cause = f"The artifact was compiled for {found}, and {field} says {wanted}"
            return Fail(Reason.ARTIFACT_INCOMPATIBLE, cause, f"Set {field} to {found}, or name another artifact")
    if request.toolchain != settings.cpu.toolchain:
        cause = f"The artifact was compiled with {_versions(request.toolchain)}, and this platform serves with "
        cause += _versions(settings.cpu.toolchain)
        remedy = "Name an artifact of this platform's toolchain in model.compiledArtifact, or compile the model here"
        return Fail(Reason.ARTIFACT_INCOMPATIBLE, cause, remedy)
    return None


def _versions(toolchain: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(toolchain.items()))


def _record(scope: Scope, settings: PlatformSettings) -> RevisionRecord:
    chosen, model, compiled = scope.plan, scope.model, scope.compiled_elsewhere
    assert chosen is not None  # noqa: S101 - phases before
    artifact: ArtifactStatus | None = None
    if compiled is not None:
        assert model.spec.model.compiled_artifact is not None  # noqa: S101 - that is what was inspected
        request, source = compiled.request, _source_of_artifact(compiled)
        store = artifact_location(model.spec.model.compiled_artifact)
        artifact = _artifact_status(compiled, store)
    else:
        found, own_store = scope.source, _store(model, settings)
        assert found is not None and own_store is not None  # noqa: S101 - phases before
        store = own_store
        request, source = _request(model, chosen, found, settings), _source(model, found)
    serving = ServingSpec(
        artifact_digest=request.digest,
        source_digest=request.source_digest,
        engine=chosen.engine,
        store=store,
        served_name=model.spec.model.served_name or model.metadata.name,
        namespace=model.metadata.namespace,
        model_name=model.metadata.name,
    )
    return RevisionRecord(
        inputs=revision_inputs(model.spec),
        source=source,
        plan=_plan_status(chosen),
        request=request,
        artifact_digest=request.digest,
        artifact=artifact,
        store=store,
        compile_image=settings.cpu.compile_image,
        compile_memory=chosen.compile_memory,
        compile_workers=chosen.compile_workers,
        deployment=rendered_deployment(model, scope.observed.target, serving, settings, memory=chosen.memory.total),
    )


def _request(model: NeuronModel, chosen: Plan, source: SourceFacts, settings: PlatformSettings) -> CompileRequest:
    return CompileRequest(
        engine=chosen.engine,
        toolchain=settings.cpu.toolchain,
        source_digest=source.digest,
        task=model.spec.model.task,
        shapes=chosen.shapes,
        dtype=chosen.dtype,
        quantization=chosen.quantization,
        target=chosen.target,
    )


def _source(model: NeuronModel, source: SourceFacts) -> RecordedSource:
    repository = model.spec.model.hugging_face
    return RecordedSource(
        origin=source.origin,
        location=source.origin.location,
        requested_revision=repository.revision if repository is not None else None,
        commit=source.origin.commit if isinstance(source.origin, HuggingFaceOrigin) else "",
        digest=source.digest,
        size_bytes=source.size_bytes,
    )


def _source_of_artifact(compiled: ArtifactFacts) -> RecordedSource:
    return RecordedSource(
        location=compiled.source_location,
        commit=compiled.source_commit,
        digest=compiled.request.source_digest,
        size_bytes=compiled.source_size_bytes,
    )


def _artifact_status(compiled: ArtifactFacts, store: StoreLocation) -> ArtifactStatus:
    digest = compiled.request.digest
    return ArtifactStatus(
        digest=digest,
        uri=store.uri(store.artifact_prefix(digest)),
        size_bytes=compiled.size_bytes,
        created_at=compiled.created_at,
        reused=True,
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
