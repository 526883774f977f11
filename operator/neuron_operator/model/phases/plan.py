"""Plans what is compiled and served. Does nothing once the revision is recorded."""

from dataclasses import replace

from neuron_operator.api.conditions import Reason
from neuron_operator.api.v1alpha1 import EngineChoice, NeuronModel, ShapeLimits, TargetChoice
from neuron_operator.model.placement import store_of
from neuron_operator.model.scope import Scope
from neuron_operator.model.steps import Continue, Fail, Step
from neuron_operator.model.tools import Tools
from neuron_operator.planning.encoder_facts import encoder_facts
from neuron_operator.planning.model_facts import model_facts
from neuron_operator.planning.planner import Wishes, plan
from neuron_operator.planning.refusal import DoesNotFit, UnsupportedModel
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.inspection import ArtifactFacts
from neuron_runtime.contract.request import CompileRequest, Engine, Target, Task


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
        if store_of(scope.model, tools.settings) is None:
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
