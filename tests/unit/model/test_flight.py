"""Who claims an artifact, and whom a change wakes up, as read off the snapshot."""

from copy import deepcopy
from typing import Any

import pytest

from neuron_operator.api.objects import NEURON_MODEL, Key, Manifest
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.loop.snapshot import Snapshot
from neuron_operator.model.flight import claims, failures_of_settings, live_job
from neuron_operator.model.policies import Claim
from neuron_operator.model.relations import INDEXED_LABELS, WATCHED, affected_models
from neuron_operator.model.resources import names
from neuron_operator.model.resources.compile_job import settings_digest
from neuron_operator.model.resources.deployment import with_artifact, with_scale
from neuron_operator.model.resources.service import service
from neuron_operator.model.resources.service_accounts import service_accounts
from neuron_operator.model.revision import SHARED_DOMAIN, Revision, controller_revision, parse_revision
from neuron_operator.settings import Identities
from neuron_runtime.contract.outcome import FailureCode
from support.models import NOW, condition, ended, job, model, pod, record, revision, terminated

FIRST = model(name="first", uid="uid-first")
SECOND = model(name="second", uid="uid-second", creationTimestamp="2026-01-01T11:30:00Z")


def as_object(of: NeuronModel) -> Manifest:
    """The model as the snapshot holds it."""
    metadata = of.metadata.model_dump(by_alias=True, exclude_none=True)
    spec = of.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"apiVersion": NEURON_MODEL.api_version, "kind": NEURON_MODEL.name, "metadata": metadata, "spec": spec}


def stored(manifest: Manifest, **metadata: Any) -> Manifest:
    """A child as the API server gives it back."""
    found = deepcopy(manifest)
    found["metadata"] = {
        "uid": f"uid-{found['metadata']['name']}",
        "resourceVersion": "5",
        **found["metadata"],
        **metadata,
    }
    return found


def snapshot(*objects: Manifest) -> Snapshot:
    found = Snapshot(WATCHED, INDEXED_LABELS)
    for manifest in objects:
        found.remember(manifest)
    return found


def found_claims(of: NeuronModel, *objects: Manifest) -> dict[str, Claim]:
    return {str(claim.key): claim for claim in claims(revision(of), snapshot(*objects), NOW, nobody)}


def nobody(_: NeuronModel) -> bool:
    return False


BOTH = (as_object(FIRST), as_object(SECOND), stored(revision(FIRST).manifest), stored(revision(SECOND).manifest))
FAILED_POD = pod(phase="Failed", container=ended(terminated(FailureCode.STORE_ACCESS_DENIED)))


def own(of: NeuronModel, manifest: Manifest) -> Manifest:
    """A pod of the model's Job."""
    labels = {names.MODEL_LABEL: of.metadata.name, names.COMPONENT_LABEL: names.COMPILE_COMPONENT}
    return stored(manifest, labels=labels | {names.ARTIFACT_LABEL: artifact_label(of)})


def artifact_label(of: NeuronModel) -> str:
    return names.artifact_label(revision(of).record.artifact_digest)


def test_all_who_want_the_artifact_claim_it() -> None:
    found = found_claims(FIRST, *BOTH)
    assert found.keys() == {"ml/first", "ml/second"}
    assert found == found_claims(SECOND, *BOTH)
    assert live_job(revision(FIRST), snapshot(*BOTH), NOW) is None


def test_a_live_job_is_seen_by_all() -> None:
    live = stored(job(FIRST))
    assert live_job(revision(SECOND), snapshot(*BOTH, live), NOW) == live


@pytest.mark.parametrize("code", [FailureCode.STORE_ACCESS_DENIED, FailureCode.SOURCE_CHANGED])
def test_a_failure_of_ones_own_is_known_to_all(code: FailureCode) -> None:
    failed = stored(job(FIRST, conditions=[condition("Failed")]))
    failed_pod = own(FIRST, pod(phase="Failed", container=ended(terminated(code))))
    first = found_claims(SECOND, *BOTH, failed, failed_pod)["ml/first"]
    assert first.gave_up is not None
    assert (first.gave_up.code, first.failed_for_own_reason) == (code.value, True)
    assert live_job(revision(SECOND), snapshot(*BOTH, failed, failed_pod), NOW) is None


@pytest.mark.parametrize("younger", [FIRST, SECOND], ids=["by age", "however they are recorded"])
def test_claims_come_by_age(younger: NeuronModel) -> None:
    young = stored(as_object(younger))
    young["metadata"]["creationTimestamp"] = "2026-01-01T11:59:00Z"
    beside = [manifest for manifest in BOTH if manifest["metadata"]["name"] != younger.metadata.name]
    found = list(found_claims(FIRST, young, *beside))
    assert found[-1] == f"ml/{younger.metadata.name}"
    assert len(found) == 2


def test_equal_age_is_decided_alike_by_all() -> None:
    twin = stored(as_object(SECOND))
    twin["metadata"]["creationTimestamp"] = BOTH[0]["metadata"]["creationTimestamp"]
    objects = (BOTH[0], twin, *BOTH[2:])
    assert (
        list(found_claims(FIRST, *objects))
        == list(found_claims(FIRST, *reversed(objects)))
        == [
            "ml/first",
            "ml/second",
        ]
    )


def test_a_failure_of_the_settings_is_known_with_them() -> None:
    killed = own(FIRST, pod(phase="Failed", container=ended({"exitCode": 137, "reason": "OOMKilled"})))
    failed = stored(job(FIRST, conditions=[condition("Failed")]))
    found = failures_of_settings(revision(SECOND), snapshot(*BOTH, failed, killed), NOW)
    assert {settings: claim.key for settings, claim in found.items()} == {settings_digest(FIRST): Key("ml", "first")}
    denied = own(FIRST, FAILED_POD)
    assert failures_of_settings(revision(SECOND), snapshot(*BOTH, failed, denied), NOW) == {}


def test_who_was_refused_has_failed_for_a_reason_of_its_own() -> None:
    found = claims(revision(SECOND), snapshot(*BOTH), NOW, lambda model: model.metadata.name == "first")
    assert {claim.key.name: claim.failed_for_own_reason for claim in found} == {"first": True, "second": False}


def test_who_has_the_artifact_claims_it_without_looking_until_it_compiles() -> None:
    bare = stored(with_scale(revision(FIRST).record.deployment, 1))
    served = stored(with_artifact(bare, "{}"))
    failed = (stored(job(FIRST, conditions=[condition("Failed")])), own(FIRST, FAILED_POD))

    def has_it(*objects: Manifest) -> dict[str, bool]:
        return {name: claim.has_artifact for name, claim in found_claims(SECOND, *BOTH, *objects).items()}

    assert has_it(bare) == {"ml/first": False, "ml/second": False}
    assert has_it(served) == {"ml/first": True, "ml/second": False}
    assert has_it(served, stored(job(FIRST))) == {"ml/first": False, "ml/second": False}
    assert has_it(served, *failed) == {"ml/first": False, "ml/second": False}


def test_a_store_is_one_however_its_prefix_and_region_are_written() -> None:
    kept = record(FIRST)
    location = kept.store.model_copy(update={"prefix": f"{kept.store.prefix}/", "region": "eu-west-1"})
    other = controller_revision(FIRST, revision(FIRST).hash, 1, kept.model_copy(update={"store": location}))
    assert found_claims(SECOND, *BOTH[:2], stored(other), BOTH[3]).keys() == {"ml/first", "ml/second"}
    elsewhere = kept.store.model_copy(update={"prefix": "elsewhere"})
    other = controller_revision(FIRST, revision(FIRST).hash, 1, kept.model_copy(update={"store": elsewhere}))
    assert found_claims(SECOND, *BOTH[:2], stored(other), BOTH[3]).keys() == {"ml/second"}


def changed(**spec: Any) -> Manifest:
    manifest = as_object(FIRST)
    return manifest | {"spec": manifest["spec"] | spec}


OUTSIDERS: dict[str, tuple[Manifest, ...]] = {
    "a model that wants something else by now": (changed(shapes={"maxBatchSize": 2}), stored(revision(FIRST).manifest)),
    "a suspended model": (changed(suspend=True), stored(revision(FIRST).manifest)),
    "a model on its way out": (
        stored(as_object(FIRST), deletionTimestamp="2026-01-01T12:00:00Z"),
        stored(revision(FIRST).manifest),
    ),
    "a revision without its model": (stored(revision(FIRST).manifest),),
    "a revision of an earlier model of the name": (
        stored(as_object(FIRST), uid="uid-later"),
        stored(revision(FIRST).manifest),
    ),
    "a revision that nobody can read": (as_object(FIRST), stored(revision(FIRST).manifest | {"data": {"a": 1}})),
    "a revision without data": (as_object(FIRST), stored(revision(FIRST).manifest | {"data": None})),
    "a model that nobody can read": (changed(model={}), stored(revision(FIRST).manifest)),
}


@pytest.mark.parametrize("case", OUTSIDERS)
def test_who_has_no_claim(case: str) -> None:
    beside = (as_object(SECOND), stored(revision(SECOND).manifest))
    assert found_claims(SECOND, *beside, *OUTSIDERS[case]).keys() == {"ml/second"}


def test_a_live_job_counts_even_when_its_model_wants_something_else() -> None:
    live = stored(job(FIRST))
    objects = (*OUTSIDERS["a model that wants something else by now"], *BOTH[1::2], live)
    assert live_job(revision(SECOND), snapshot(*objects), NOW) == live


STRAYS: dict[str, Manifest] = {
    "its revision is gone": stored(job(model(name="unknown"))),
    "its labels were taken": stored(job(FIRST), labels={names.ARTIFACT_LABEL: artifact_label(FIRST)}),
    "in another namespace": stored(job(FIRST), namespace="other"),
}


@pytest.mark.parametrize("case", STRAYS)
def test_a_job_that_cannot_be_told_to_share_the_store_does_not_count(case: str) -> None:
    assert live_job(revision(SECOND), snapshot(*BOTH, STRAYS[case]), NOW) is None


def elsewhere(of: NeuronModel, namespace: str, domain: str) -> tuple[Manifest, Manifest]:
    """The model and its revision in another namespace, with a store of the sharing domain that is asked for."""
    manifest = as_object(of)
    manifest["metadata"]["namespace"] = namespace
    moved = NeuronModel.parse(manifest)
    kept = record(moved)
    kept = kept.model_copy(update={"store": kept.store.model_copy(update={"domain": domain})})
    return manifest, stored(controller_revision(moved, revision(moved).hash, 1, kept))


def test_another_namespace_cannot_claim_what_a_namespace_keeps_for_itself() -> None:
    forged = elsewhere(FIRST, "evil", "ns/ml")
    assert found_claims(SECOND, *BOTH[1::2], *forged).keys() == {"ml/second"}


def test_namespaces_share_where_the_platform_says_so() -> None:
    (_, mine), theirs = elsewhere(SECOND, "ml", SHARED_DOMAIN), elsewhere(FIRST, "other", SHARED_DOMAIN)
    found = claims(parse_revision(mine), snapshot(as_object(SECOND), mine, *theirs), NOW, nobody)
    assert {str(claim.key) for claim in found} == {"ml/second", "other/first"}


def kept(of: Revision, **labels: str | None) -> Manifest:
    manifest = stored(of.manifest)
    edited = manifest["metadata"]["labels"] | labels
    manifest["metadata"]["labels"] = {name: value for name, value in edited.items() if value is not None}
    return manifest


ONE, TWO = Key("ml", "first"), Key("ml", "second")
COMPILE_POD = own(FIRST, pod())

WOKEN: dict[str, tuple[Manifest, set[Key]]] = {
    "a model": (as_object(FIRST), {ONE}),
    "a Service": (stored(service(FIRST, "r")), {ONE}),
    "a Deployment": (stored(revision(FIRST).record.deployment), {ONE}),
    "a Job": (stored(job(FIRST)), {ONE, TWO}),
    "a revision": (stored(revision(FIRST).manifest), {ONE, TWO}),
    "a compile pod": (COMPILE_POD, {ONE, TWO}),
    "a serving pod": (
        stored(COMPILE_POD, labels=COMPILE_POD["metadata"]["labels"] | {names.COMPONENT_LABEL: "serving"}),
        {ONE},
    ),
    "an account": (stored(service_accounts("ml", Identities())[0]), {ONE, TWO}),
    "an account elsewhere": (stored(service_accounts("other", Identities())[0]), set()),
    "a pod without labels": (stored(pod()), set()),
    "a revision without the model's label": (kept(revision(FIRST), **{names.MODEL_LABEL: None}), {ONE, TWO}),
}


@pytest.mark.parametrize("case", WOKEN)
def test_whom_a_change_wakes(case: str) -> None:
    changed_object, expected = WOKEN[case]
    assert affected_models(changed_object, snapshot(*BOTH)) == expected


def test_a_revision_whose_label_was_taken_still_wakes_its_model() -> None:
    edited = kept(revision(FIRST), **{names.MODEL_LABEL: None})
    objects = (as_object(FIRST), as_object(SECOND), edited, stored(revision(SECOND).manifest))
    assert affected_models(stored(job(SECOND)), snapshot(*objects)) == {ONE, TWO}
