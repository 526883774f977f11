"""The status that follows from what one reconcile observed."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_operator.api.conditions import ConditionType, Reason
from neuron_operator.api.objects import Manifest
from neuron_operator.api.status import ArtifactStatus, CompileStatus, LastFailure, Phase, WaitingFor
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.diagnosis.catalogue import CATALOGUE
from neuron_operator.diagnosis.containers import diagnose_termination
from neuron_operator.model.observe import Observed
from neuron_operator.model.phases import PHASES
from neuron_operator.model.resources.deployment import with_scale
from neuron_operator.model.resources.service import service
from neuron_operator.model.revision import Revision
from neuron_operator.model.scope import Scope
from neuron_operator.model.status import project, project_unreadable
from neuron_operator.model.steps import Continue, Fail, Step, Wait, as_cause
from neuron_runtime.contract.inspection import SourceFacts, WeightFormat
from neuron_runtime.contract.origin import HuggingFaceOrigin
from support.models import NOW, model, revision

LLAMA = model()
OLD = model({"serving": {"resources": {"requests": {"cpu": "4"}}}})
ARTIFACT = ArtifactStatus(
    digest=revision(LLAMA).record.artifact_digest, uri="s3://artifacts/x/", size_bytes=5, created_at="c", reused=True
)
SOURCE, PLANNED, COMPILED, READY = (
    ConditionType.SOURCE_RESOLVED,
    ConditionType.PLANNED,
    ConditionType.COMPILED,
    ConditionType.READY,
)


def deployment(of: Revision, ready: int, replicas: int = 1) -> Manifest:
    return with_scale(of.record.deployment, replicas) | {"status": {"replicas": replicas, "readyReplicas": ready}}


def scope(
    of: NeuronModel = LLAMA,
    *,
    recorded: bool = True,
    artifact: ArtifactStatus | None = None,
    ready: int | None = None,
    before: int | None = None,
    **found: Any,
) -> Scope:
    """A model whose target revision has `ready` pods, beside an older one that is active with `before` pods."""
    target, old = revision(of, 2), revision(OLD, 1)
    revisions = {old.hash: old} if before is not None else {}
    deployments = {old.hash: deployment(old, before)} if before is not None else {}
    if recorded:
        revisions[target.hash] = target
    if ready is not None:
        deployments[target.hash] = deployment(target, ready, of.spec.serving.replicas)
    active = old.hash if before is not None else target.hash if ready is not None else None
    observed = Observed(
        model=of,
        target=target.hash,
        revisions=revisions,
        unreadable=frozenset(),
        jobs=(),
        inspections=(),
        deployments=deployments,
        service=service(of, active) if active is not None else None,
        serving_pods=(),
    )
    return Scope(model=of, observed=observed, revision=target if recorded else None, artifact=artifact, **found)


RESOLVED = SourceFacts(
    origin=HuggingFaceOrigin(repo="org/llama", commit="c" * 40),
    digest=f"sha256:{'5' * 64}",
    size_bytes=1,
    weights=WeightFormat.SAFETENSORS,
    config={},
)
SUSPENDED = model({"suspend": True})
NONE_WANTED = model({"serving": {"replicas": 0}})
HELP = WaitingFor(reason="Unschedulable", message="No node")

# What was observed, where it stopped and at which condition, and: phase, Ready, Available, SourceResolved, Planned,
# Compiled, and kstatus's condition.
CASES: dict[str, tuple[Scope, Step, ConditionType, Phase, tuple[Phase, str, str, str, str, str, str | None]]] = {
    "hub does not answer": (
        scope(recorded=False),
        Wait(Reason.UNREACHABLE, "?", after=30),
        SOURCE,
        Phase.RESOLVING,
        (Phase.RESOLVING, "False", "False", "False", "Unknown", "Unknown", "Reconciling"),
    ),
    "not on the hub": (
        scope(recorded=False),
        Fail(Reason.NOT_FOUND, "?", "!", after=300),
        SOURCE,
        Phase.RESOLVING,
        (Phase.FAILED, "False", "False", "False", "Unknown", "Unknown", "Stalled"),
    ),
    "a new spec is not on the hub while the old revision serves": (
        scope(recorded=False, before=1),
        Fail(Reason.NOT_FOUND, "?", "!"),
        SOURCE,
        Phase.RESOLVING,
        (Phase.DEGRADED, "False", "True", "False", "Unknown", "Unknown", "Stalled"),
    ),
    "does not fit": (
        scope(recorded=False, source=RESOLVED),
        Fail(Reason.DOES_NOT_FIT, "?", "!"),
        PLANNED,
        Phase.PLANNING,
        (Phase.FAILED, "False", "False", "True", "False", "Unknown", "Stalled"),
    ),
    "compiling": (
        scope(),
        Wait(Reason.JOB_RUNNING, "?", after=10),
        COMPILED,
        Phase.COMPILING,
        (Phase.COMPILING, "False", "False", "True", "True", "False", "Reconciling"),
    ),
    "compiling beside the old revision": (
        scope(before=1),
        Wait(Reason.JOB_RUNNING, "?", after=10),
        COMPILED,
        Phase.COMPILING,
        (Phase.COMPILING, "False", "True", "True", "True", "False", "Reconciling"),
    ),
    "compile failed": (
        scope(),
        Fail(Reason.COMPILE_FAILED, "?", "!"),
        COMPILED,
        Phase.COMPILING,
        (Phase.FAILED, "False", "False", "True", "True", "False", "Stalled"),
    ),
    "loading": (
        scope(artifact=ARTIFACT, ready=0),
        Wait(Reason.LOADING, "?"),
        READY,
        Phase.LOADING,
        (Phase.LOADING, "False", "False", "True", "True", "True", "Reconciling"),
    ),
    "no node": (
        scope(artifact=ARTIFACT, ready=0),
        Wait(Reason.UNSCHEDULABLE, "?", waiting_for=HELP),
        READY,
        Phase.LOADING,
        (Phase.LOADING, "False", "False", "True", "True", "True", "Reconciling"),
    ),
    "artifact damaged": (
        scope(artifact=ARTIFACT, ready=0),
        Fail(Reason.ARTIFACT_DAMAGED, "?", "!", condition=COMPILED),
        READY,
        Phase.LOADING,
        (Phase.FAILED, "False", "False", "True", "True", "False", "Stalled"),
    ),
    "image cannot be pulled beside the old revision": (
        scope(artifact=ARTIFACT, ready=0, before=1),
        Fail(Reason.IMAGE_PULL_FAILED, "?", "!"),
        READY,
        Phase.LOADING,
        (Phase.DEGRADED, "False", "True", "True", "True", "True", "Stalled"),
    ),
    "ready": (
        scope(artifact=ARTIFACT, ready=1),
        Continue(),
        READY,
        Phase.READY,
        (Phase.READY, "True", "True", "True", "True", "True", None),
    ),
    "scaled to zero": (
        scope(NONE_WANTED, artifact=ARTIFACT, ready=0),
        Continue(),
        READY,
        Phase.READY,
        (Phase.READY, "True", "False", "True", "True", "True", None),
    ),
    "suspended": (
        scope(SUSPENDED, artifact=ARTIFACT, ready=0),
        Wait(Reason.SUSPENDED, "?"),
        READY,
        Phase.SUSPENDED,
        (Phase.SUSPENDED, "False", "False", "True", "True", "True", None),
    ),
    "suspended before anything was known": (
        scope(SUSPENDED, recorded=False),
        Wait(Reason.SUSPENDED, "?"),
        READY,
        Phase.SUSPENDED,
        (Phase.SUSPENDED, "False", "False", "Unknown", "Unknown", "Unknown", None),
    ),
    "a name is taken": (
        scope(artifact=ARTIFACT),
        Fail(Reason.CONFLICT, "?", "!", after=60),
        READY,
        Phase.LOADING,
        (Phase.FAILED, "False", "False", "True", "True", "True", "Stalled"),
    ),
}


def conditions_of(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {condition["type"]: condition for condition in status["conditions"]}


@pytest.mark.parametrize("case", CASES)
def test_phase_and_conditions(case: str) -> None:
    observed, step, condition, word, expected = CASES[case]
    status = project(observed, step, condition, word, NOW)
    conditions = conditions_of(status)
    kstatus = [kind for kind in ("Reconciling", "Stalled") if kind in conditions]
    found = (
        status["phase"],
        *(conditions[kind]["status"] for kind in ("Ready", "Available", "SourceResolved", "Planned", "Compiled")),
        kstatus[0] if kstatus else None,
    )
    assert found == expected
    assert len(kstatus) <= 1
    assert all(condition["observedGeneration"] == 3 for condition in status["conditions"])
    assert status["observedGeneration"] == 3
    assert status["message"] == conditions["Ready"]["message"]


@pytest.mark.parametrize("case", [case for case in CASES if not isinstance(CASES[case][1], Continue)])
def test_the_reason_stands_on_ready_and_on_the_condition_it_decides(case: str) -> None:
    observed, step, condition, word, _ = CASES[case]
    assert not isinstance(step, Continue)
    decided = (step.condition if isinstance(step, Fail) else None) or condition
    conditions = conditions_of(project(observed, step, condition, word, NOW))
    assert conditions["Ready"]["reason"] == conditions[decided]["reason"] == step.reason


@pytest.mark.parametrize("case", CASES)
def test_the_same_picture_gives_the_same_status(case: str) -> None:
    observed, step, condition, word, _ = CASES[case]
    first = project(observed, step, condition, word, NOW)
    written = replace(observed, model=observed.model.model_copy(update={"status": first}))
    assert project(written, step, condition, word, NOW + timedelta(hours=1)) == first


def status_of(case: str) -> dict[str, Any]:
    observed, step, condition, word, _ = CASES[case]
    return project(observed, step, condition, word, NOW)


def test_a_ready_model_says_where_it_answers() -> None:
    status = status_of("ready")
    target = revision(LLAMA)
    assert status["serving"] == {
        "endpoint": "http://llama.ml.svc:8080/v1",
        "deployment": target.record.deployment["metadata"]["name"],
        "readyReplicas": 1,
        "replicas": "1/1",
    }
    assert status["revisions"] == {"active": target.name, "target": target.name}
    assert status["replicas"] == 1
    assert status["artifact"]["reused"] is True
    assert status["source"]["commit"] == "c" * 40
    assert status["source"]["sizeBytes"] == 2**40
    assert status["plan"]["hardware"] == "CPU"
    assert not {"lastFailure", "compile", "waitingFor"} & status.keys()
    assert selector_of(status).items() <= target.record.deployment["spec"]["template"]["metadata"]["labels"].items()


def selector_of(status: dict[str, Any]) -> dict[str, str]:
    return dict(part.split("=") for part in status["selector"].split(","))


def test_while_a_revision_is_on_its_way_the_old_one_is_what_serves() -> None:
    status = status_of("compiling beside the old revision")
    assert status["revisions"] == {"active": revision(OLD).name, "target": revision(LLAMA).name}
    assert status["serving"]["deployment"] == revision(OLD).record.deployment["metadata"]["name"]
    assert status["serving"]["replicas"] == "1/1"
    assert selector_of(status) == revision(OLD).record.deployment["spec"]["selector"]["matchLabels"]


def test_nothing_is_available_without_a_service_of_ours() -> None:
    observed, _, condition, word, _ = CASES["ready"]
    foreign = replace(observed, observed=replace(observed.observed, service=None))
    status = project(foreign, Fail(Reason.CONFLICT, "?", "!"), condition, word, NOW)
    assert conditions_of(status)["Available"]["status"] == "False"
    assert "serving" not in status


def test_what_is_waited_for_stands_apart() -> None:
    assert status_of("no node")["waitingFor"] == {"reason": "Unschedulable", "message": "No node"}


@pytest.mark.parametrize(
    ("case", "stage", "retryable"),
    [("not on the hub", "Resolve", True), ("does not fit", "Plan", False), ("artifact damaged", "Serve", False)],
)
def test_a_failed_step_is_the_last_failure_with_its_remedy(case: str, stage: str, retryable: bool) -> None:
    step = CASES[case][1]
    assert isinstance(step, Fail)
    failure = status_of(case)["lastFailure"]
    assert failure == {
        "stage": stage,
        "code": step.reason.value,
        "message": "?",
        "remedy": "!",
        "retryable": retryable,
    }


def test_what_a_container_told_is_the_last_failure_in_more_detail() -> None:
    told = LastFailure(stage="Compile", code="CompilerFailed", message="error: no such header", exit_code=67)
    status = project(scope(failure=told), Fail(Reason.COMPILE_FAILED, "?", "!"), COMPILED, Phase.COMPILING, NOW)
    assert status["lastFailure"]["exitCode"] == 67


LONG = "x" * 100_000
LONGEST_REMEDY = max((entry.remedy for entry in CATALOGUE.values()), key=len)
TEXTS: dict[str, Callable[[str], Step]] = {
    "wait": lambda text: Wait(
        Reason.JOB_RUNNING, text, waiting_for=WaitingFor(reason="Unschedulable", message=as_cause(text))
    ),
    "fail": lambda text: Fail(Reason.COMPILE_FAILED, text, LONGEST_REMEDY),
}


def longest(text: str, step: Step) -> dict[str, Any]:
    diagnosed = diagnose_termination({"exitCode": 1, "message": text})
    assert diagnosed is not None
    failure = LastFailure(
        stage="Compile",
        code="StoreBucketNotFound",
        message=text,
        remedy=LONGEST_REMEDY,
        retryable=False,
        attempt=20,
        exit_code=255,
        time="2026-01-01T12:00:00Z",
        log_tail=diagnosed.log_tail,
    )
    job = CompileStatus(job="j" * 63, attempt=20, max_attempts=20, stage="Compiling", percent=100, eta_seconds=2**40)
    full = scope(artifact=ARTIFACT, ready=0, before=1, failure=failure, compile=job)
    return project(full, step, COMPILED, Phase.COMPILING, NOW)


@pytest.mark.parametrize("kind", TEXTS)
def test_the_longest_texts_stay_within_8_kib(kind: str) -> None:
    assert len(json.dumps(longest(LONG, TEXTS[kind](LONG)))) < 8 * 1024


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200), st.sampled_from(sorted(TEXTS)))
def test_any_text_stays_within_32_kib(text: str, kind: str) -> None:
    grown = (text or "?") * 2000
    assert len(json.dumps(longest(grown, TEXTS[kind](grown)), ensure_ascii=False).encode()) < 32 * 1024


def test_an_unreadable_spec_is_stalled_with_the_field() -> None:
    manifest = {"metadata": {"generation": 4}, "status": {"conditions": []}}
    status = project_unreadable(manifest, "spec.shapes.dtype: unknown", NOW)
    conditions = conditions_of(status)
    assert status["phase"] == Phase.FAILED
    assert status["observedGeneration"] == 4
    assert conditions.keys() == {"Ready", "Stalled"}
    assert "spec.shapes.dtype" in conditions["Ready"]["message"]


def test_every_phase_decides_a_condition_that_the_status_has() -> None:
    assert {phase.condition for phase in PHASES} == {SOURCE, PLANNED, COMPILED, READY}
