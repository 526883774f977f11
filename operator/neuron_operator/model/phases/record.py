"""Writes down what was decided, in a ControllerRevision. Does nothing once that is there."""

from neuron_operator.api.impact import revision_inputs
from neuron_operator.api.status import ArtifactStatus, MemoryStatus, PlanStatus
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.model.placement import store_of
from neuron_operator.model.resources.deployment import rendered_deployment
from neuron_operator.model.resources.inspect_job import artifact_location
from neuron_operator.model.revision import RecordedSource, RevisionRecord, controller_revision, parse_revision
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Step
from neuron_operator.model.tools import Tools
from neuron_operator.planning.planner import Plan
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.inspection import ArtifactFacts, SourceFacts
from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.request import CompileRequest, Quantization
from neuron_runtime.contract.store import StoreLocation


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
    chosen, model, compiled = scope.plan, scope.model, scope.compiled_elsewhere
    assert chosen is not None  # noqa: S101 - phases before
    artifact: ArtifactStatus | None = None
    if compiled is not None:
        assert model.spec.model.compiled_artifact is not None  # noqa: S101 - that is what was inspected
        request, source = compiled.request, _source_of_artifact(compiled)
        store = artifact_location(model.spec.model.compiled_artifact)
        artifact = _artifact_status(compiled, store)
    else:
        found, own_store = scope.source, store_of(model, settings)
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
        commit=source.origin.commit,
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
