"""Live models whose specs are edited again and again end where a fresh model with the last spec ends."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from faults.bed import NEURON_MODELS, Bed
from faults.edits import SOURCES, START, VALUES, Spec, edited, serving
from faults.life import Life, difference, living
from faults.schedule import Schedule, no_faults
from faults.trials import seeds
from neuron_localcluster.simulator import ContainerEnd
from neuron_localcluster.simulator.resource import DEPLOYMENTS, JOBS, SERVICES
from neuron_operator.api.conditions import Reason
from neuron_operator.api.impact import IMPACT
from neuron_operator.model.resources import names
from neuron_runtime.contract.digests import digest_of
from neuron_runtime.contract.inspection import HuggingFaceRevision, InspectSpec, SourceFacts, WeightFormat
from neuron_runtime.contract.launch import INSPECT_SPEC_VARIABLE
from neuron_runtime.contract.origin import HuggingFaceOrigin
from neuron_runtime.contract.outcome import TerminationMessage
from support.hub import CONFIG

pytestmark = pytest.mark.cluster

MODELS = 10
EDITS = 20
JSON_PATCH = "application/json-patch+json"


def test_edits_reach_every_leaf_of_the_spec() -> None:
    of_sources = {f"model.{kind}" for kind in (*SOURCES, "compiledArtifact")}
    others = {path for path in IMPACT if not any(path.startswith(source) for source in of_sources)}
    assert others == set(VALUES)


async def test_edited_models_end_where_fresh_ones_with_the_last_spec_do(bed: Bed) -> None:
    for seed in seeds(1):
        await _edit_and_compare(bed, seed, no_faults())


@pytest.mark.faults
async def test_edited_models_end_there_under_faults_as_well(bed: Bed) -> None:
    for seed in seeds(1):
        await _edit_and_compare(bed, seed, Schedule(seed, budget=60))


async def _edit_and_compare(bed: Bed, seed: int, schedule: Schedule) -> None:
    chance = random.Random(seed)
    specs: dict[str, Spec] = {f"model-{number}": START for number in range(MODELS)}
    async with living(bed, schedule) as life:
        bed.compiles[life.namespace] = lambda job: _end(bed, job)
        for name, spec in specs.items():
            await life.create(name, **spec)
        history = []
        for _ in range(MODELS * EDITS):
            name = chance.choice(sorted(specs))
            specs[name] = edited(specs[name], chance)
            history.append(f"{name}: {json.dumps(specs[name], sort_keys=True)}")
            await _replace(life, name, specs[name])
            # Some edits meet a model at rest, some one that is in the middle of the edit before.
            await asyncio.sleep(chance.choice((0, 0, 0.05, 0.3)))
        for name in specs:
            specs[name] = serving(specs[name])
            history.append(f"{name}: {json.dumps(specs[name], sort_keys=True)}")
            await _replace(life, name, specs[name])
        await life.outcome(None)
        found = await _models(life)
    async with living(bed, no_faults()) as fresh:
        bed.compiles[fresh.namespace] = lambda job: _end(bed, job)
        for name, spec in specs.items():
            await fresh.create(name, **spec)
        await fresh.outcome(None)
        expected = await _models(fresh)
    for name in specs:
        edits = [entry for entry in history if entry.startswith(f"{name}:")]
        if found[name] != expected[name]:
            raise AssertionError("\n".join([f"seed {seed}", *edits[-4:], difference(expected[name], found[name])]))


async def _replace(life: Life, name: str, spec: Spec) -> None:
    body: Any = [{"op": "replace", "path": "/spec", "value": spec}]
    await life.bed.api.patch(NEURON_MODELS.path(life.namespace, name), body, JSON_PATCH)


async def _end(bed: Bed, job: dict[str, Any]) -> ContainerEnd:
    """What the container of a compile or inspect Job does."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    if INSPECT_SPEC_VARIABLE not in variables:
        return await bed.compile(job)
    target = InspectSpec.model_validate_json(variables[INSPECT_SPEC_VARIABLE]).target
    if isinstance(target, HuggingFaceRevision):
        target = HuggingFaceOrigin(repo=target.repo, commit="c" * 40, endpoint=target.endpoint)
    facts = SourceFacts(
        origin=target,
        digest=digest_of(target.to_document()),
        size_bytes=1000,
        weights=WeightFormat.SAFETENSORS,
        config=CONFIG,
    )
    return ContainerEnd(0, TerminationMessage(source=facts).encode())


async def _models(life: Life) -> dict[str, Any]:
    """What there is of each model that its past must not show in: status, and what serves."""
    found: dict[str, Any] = {}
    for model in await life.all(NEURON_MODELS):
        name = model["metadata"]["name"]
        found[name] = {"status": model["status"], "Deployment": [], "Job": [], "Service": []}
    for resource in (DEPLOYMENTS, JOBS, SERVICES):
        for child in await life.all(resource):
            metadata = child["metadata"]
            spec = {key: child["spec"].get(key) for key in ("replicas", "selector", "template", "ports")}
            found[metadata["labels"][names.MODEL_LABEL]][resource.kind].append(spec)
    return {name: _without_past(document, life.namespace) for name, document in found.items()}


_PAST = frozenset(
    {
        "observedGeneration",
        "lastTransitionTime",
        "createdAt",
        "startedAt",
        "time",
        # Whether the artifact was there is a question of what was compiled before.
        "reused",
        "uid",
    }
)


def _without_past(value: Any, namespace: str) -> Any:
    """What was observed, without moments, and without the name of the revision: a spec that writes out what Auto stood
    for keeps the revision that it has."""
    text = json.dumps(_lasting(value), sort_keys=True).replace(namespace, "NAMESPACE")
    text = text.replace(Reason.ARTIFACT_REUSED, Reason.ARTIFACT_FOUND)
    revision = ((value["status"].get("revisions") or {}).get("target") or "").rpartition("-")[2]
    return json.loads(text.replace(revision, "REVISION") if revision else text)


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in _PAST}
    return [_lasting(item) for item in value] if isinstance(value, list) else value
