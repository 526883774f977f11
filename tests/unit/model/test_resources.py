"""The child objects: their names, their security, and that equal inputs give equal manifests."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neuron_operator.api.impact import revision_hash
from neuron_operator.api.objects import Manifest, is_owned_by, labels_of
from neuron_operator.api.v1alpha1 import NAME_LIMIT
from neuron_operator.model.resources import names
from neuron_operator.model.resources.compile_job import compile_job
from neuron_operator.model.resources.deployment import with_artifact, with_scale
from neuron_operator.model.resources.difference import differs
from neuron_operator.model.resources.inspect_job import inspect_job, inspect_spec
from neuron_operator.model.resources.service import endpoint, selected_revision, service
from neuron_operator.model.resources.service_accounts import service_accounts
from neuron_operator.model.revision import controller_revision, fits, parse_revision, recorded_deployment
from neuron_operator.settings import (
    HuggingFaceSettings,
    Identities,
    PlatformSettings,
    ProxySettings,
    TrustedCertificates,
)
from neuron_runtime.contract.digests import digest_of
from neuron_runtime.contract.launch import CompileSpec, ServingSpec
from support.models import SETTINGS, model, record, revision

LLAMA = model()
REVISION = revision(LLAMA)
GATED = model({"model": {"huggingFace": {"repo": "org/llama", "tokenSecretRef": {"name": "hf", "key": "token"}}}})
INSPECTION = inspect_job(GATED, inspect_spec(GATED), SETTINGS, attempt=1, failures=0)
JOB = compile_job(LLAMA, REVISION, SETTINGS, attempt=2, failures=1)
DEPLOYMENT = with_scale(REVISION.record.deployment, 2)
SERVICE = service(LLAMA, REVISION.hash)
CHILDREN = {
    "Job": JOB,
    "Inspection": INSPECTION,
    "Deployment": DEPLOYMENT,
    "Service": SERVICE,
    "ControllerRevision": REVISION.manifest,
}
WORKLOADS = {"Job": JOB, "Inspection": INSPECTION, "Deployment": DEPLOYMENT}

MODEL_NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,43}[a-z0-9])?", fullmatch=True)
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@given(name=MODEL_NAMES, inputs=st.integers(), attempt=st.integers(1, 10_000))
def test_every_name_and_label_is_legal(name: str, inputs: int, attempt: int) -> None:
    assert len(name) <= NAME_LIMIT
    digest = digest_of(inputs)
    short = revision_hash(LLAMA.spec)
    for derived in (
        names.controller_revision(name, short),
        names.deployment(name, short),
        names.service(name),
        names.compile_job(name, digest, attempt),
        names.inspect_job(name, "0123abcd", attempt),
    ):
        assert NAME.fullmatch(derived), derived
    assert LABEL.fullmatch(names.artifact_label(digest))


@given(name=MODEL_NAMES, attempts=st.lists(st.integers(1, 99), min_size=2, max_size=2, unique=True))
def test_attempts_have_jobs_of_their_own(name: str, attempts: list[int]) -> None:
    digest = digest_of(1)
    assert len({names.compile_job(name, digest, attempt) for attempt in attempts}) == 2


@pytest.mark.parametrize("kind", CHILDREN)
def test_every_child_is_found_again_and_deleted_with_its_model(kind: str) -> None:
    child = CHILDREN[kind]
    assert is_owned_by(child, LLAMA.metadata.uid)
    assert labels_of(child)[names.MANAGED_BY_LABEL] == names.MANAGED_BY
    assert labels_of(child)[names.MODEL_LABEL] == "llama"
    assert child["metadata"]["namespace"] == "ml"


@pytest.mark.parametrize("kind", CHILDREN)
def test_equal_inputs_give_equal_bytes(kind: str) -> None:
    again = revision(model())
    built = {
        "Job": compile_job(model(), again, SETTINGS, attempt=2, failures=1),
        "Inspection": inspect_job(GATED, inspect_spec(GATED), SETTINGS, attempt=1, failures=0),
        "Deployment": with_scale(again.record.deployment, 2),
        "Service": service(model(), again.hash),
        "ControllerRevision": again.manifest,
    }
    assert json.dumps(built[kind]) == json.dumps(CHILDREN[kind])


def template(kind: str) -> Manifest:
    found: Manifest = WORKLOADS[kind]["spec"]["template"]
    return found


def workload(kind: str, settings: PlatformSettings) -> Manifest:
    """What other settings of the platform make of it."""
    made = parse_revision(controller_revision(LLAMA, revision_hash(LLAMA.spec), 1, record(LLAMA, settings)))
    if kind == "Job":
        return compile_job(LLAMA, made, settings, attempt=1, failures=0)
    return with_scale(made.record.deployment, 2)


def variables_of(kind: str, settings: PlatformSettings) -> dict[str, str]:
    (container,) = workload(kind, settings)["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_pods_keep_to_the_restricted_profile(kind: str) -> None:
    spec = template(kind)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all(volume.keys() <= {"name", "emptyDir", "secret"} for volume in spec["volumes"])
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in security
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_pods_go_through_the_platforms_proxy_but_for_what_hands_out_credentials(kind: str) -> None:
    settings = SETTINGS.model_copy(
        update={
            "proxy": ProxySettings(https_proxy="http://proxy:3128", no_proxy=".internal,.svc"),
            "pod_environment": {},
        }
    )
    variables = variables_of(kind, settings)
    assert variables["HTTPS_PROXY"] == variables["https_proxy"] == "http://proxy:3128"
    assert "HTTP_PROXY" not in variables
    assert variables["NO_PROXY"] == variables["no_proxy"]
    direct = variables["NO_PROXY"].split(",")
    assert direct[:2] == [".internal", ".svc"]
    assert {"169.254.170.23", "169.254.169.254"} <= set(direct)
    assert not {name for name in variables_of(kind, SETTINGS) if name.lower().endswith("_proxy")} - {"NO_PROXY"}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_pods_trust_the_platforms_certificates(kind: str) -> None:
    trusted = TrustedCertificates(config_map_name="ca-bundle", key="bundle.pem")
    pod = workload(kind, SETTINGS.model_copy(update={"trusted_certificates": trusted}))["spec"]["template"]["spec"]
    (volume,) = (volume for volume in pod["volumes"] if "configMap" in volume)
    (container,) = pod["containers"]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == volume["name"])
    assert volume["configMap"]["name"] == "ca-bundle"
    (item,) = volume["configMap"]["items"]
    assert item["key"] == "bundle.pem"
    assert mount["readOnly"] is True
    file = f"{mount['mountPath']}/{item['path']}"
    named = {entry["name"] for entry in container["env"] if entry.get("value") == file}
    assert {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"} <= named


def test_jobs_find_the_platforms_hub_where_the_operator_does() -> None:
    hub = HuggingFaceSettings(endpoint="https://mirror.example")
    settings = SETTINGS.model_copy(update={"hugging_face": hub, "pod_environment": {}})
    assert variables_of("Job", settings)["HF_ENDPOINT"] == "https://mirror.example"
    assert "HF_ENDPOINT" not in variables_of("Deployment", settings), "servers read the store alone"
    told = SETTINGS.model_copy(update={"hugging_face": hub})
    assert variables_of("Job", told)["HF_ENDPOINT"] == "http://hub.example", "a variable of the platform's wins"


@pytest.mark.parametrize("kind", WORKLOADS)
def test_pods_hold_no_token_of_the_api_server(kind: str) -> None:
    assert template(kind)["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", WORKLOADS)
def test_containers_name_their_command_and_where_they_leave_their_message(kind: str) -> None:
    (container,) = template(kind)["spec"]["containers"]
    environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    assert container["command"][:2] == ["python", "-m"]
    assert environment["TERMINATION_MESSAGE_PATH"] == container["terminationMessagePath"]
    assert environment["NEURON_WORK_DIR"] in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert environment["HF_ENDPOINT"] == "http://hub.example"
    assert list(environment) == sorted(environment)


@pytest.mark.parametrize("kind", WORKLOADS)
def test_pods_carry_the_labels_of_their_parent(kind: str) -> None:
    assert template(kind)["metadata"]["labels"] == labels_of(WORKLOADS[kind])


def without_empty_values(value: Any) -> Any:
    """As the API server stores strings of these lists: an empty one is left out."""
    if isinstance(value, dict):
        return {key: without_empty_values(inner) for key, inner in value.items() if inner != ""}
    return [without_empty_values(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", WORKLOADS)
def test_an_empty_variable_is_no_lasting_difference(kind: str) -> None:
    assert "NO_PROXY" in {variable["name"] for variable in template(kind)["spec"]["containers"][0]["env"]}
    assert not differs(WORKLOADS[kind], without_empty_values(WORKLOADS[kind]))


def environment_of(manifest: Manifest, name: str) -> str:
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return str(next(variable["value"] for variable in container["env"] if variable["name"] == name))


def test_a_job_says_all_that_the_compiler_needs() -> None:
    spec = CompileSpec.model_validate_json(environment_of(JOB, "NEURON_COMPILE_SPEC"))
    assert spec.request == REVISION.record.request
    assert spec.request.digest == REVISION.record.artifact_digest
    assert spec.store == REVISION.record.store
    assert (spec.origin.repo, spec.origin.commit) == ("org/llama", "c" * 40)


def test_a_job_is_tried_once_and_ends_in_time() -> None:
    assert JOB["spec"]["backoffLimit"] == 0
    assert JOB["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 7200
    assert JOB["spec"]["activeDeadlineSeconds"] > 7200
    assert JOB["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert JOB["spec"]["podFailurePolicy"]["rules"][0]["action"] == "Ignore"


def test_a_job_asks_for_what_was_planned_unless_the_spec_says_otherwise() -> None:
    (container,) = JOB["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["memory"] == f"{6 * 1024 + 1}Mi"
    asked = model({"compile": {"resources": {"requests": {"cpu": 3}, "limits": {}}}})
    (container,) = compile_job(asked, REVISION, SETTINGS, attempt=1, failures=0)["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["resources"] == {"requests": {"cpu": "3"}}


def test_a_deployment_says_all_that_the_server_needs() -> None:
    spec = ServingSpec.model_validate_json(environment_of(DEPLOYMENT, "NEURON_SERVING_SPEC"))
    assert spec.artifact_digest == REVISION.record.artifact_digest
    assert spec.store == REVISION.record.store


def test_the_service_selects_exactly_the_pods_of_its_revision() -> None:
    selector = SERVICE["spec"]["selector"]
    assert selector.items() <= template("Deployment")["metadata"]["labels"].items()
    assert not selector.items() <= template("Job")["metadata"]["labels"].items()
    other = revision(model({"serving": {"resources": {"requests": {"cpu": "4"}}}}))
    assert not selector.items() <= other.record.deployment["spec"]["template"]["metadata"]["labels"].items()
    assert selected_revision(SERVICE) == REVISION.hash
    assert selected_revision({"spec": {"selector": None}}) == selected_revision({"spec": {}}) == ""


def test_the_port_of_the_service_is_one_of_the_container() -> None:
    (port,) = SERVICE["spec"]["ports"]
    (container,) = template("Deployment")["spec"]["containers"]
    assert port["targetPort"] in {exposed["name"] for exposed in container["ports"]}
    assert endpoint(LLAMA) == f"http://llama.ml.svc:{port['port']}/v1"


def test_two_revisions_have_deployments_that_do_not_share_pods() -> None:
    other = revision(model({"model": {"huggingFace": {"repo": "org/llama"}, "servedName": "chat"}}))
    ours, theirs = (
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        other.record.deployment["spec"]["selector"]["matchLabels"],
    )
    assert DEPLOYMENT["metadata"]["name"] != other.record.deployment["metadata"]["name"]
    assert ours != theirs
    assert ours.keys() == theirs.keys()


def test_scale_and_artifact_change_nothing_that_restarts_pods() -> None:
    rendered = REVISION.record.deployment
    grown = with_artifact(with_scale(rendered, 5), '{"uri": "s3://b"}')
    assert grown["spec"]["template"] == rendered["spec"]["template"]
    assert "replicas" not in rendered["spec"]
    assert "annotations" not in rendered["metadata"]


def test_a_revision_comes_back_from_its_record_as_it_was() -> None:
    stored = json.loads(json.dumps(REVISION.manifest))
    found = parse_revision(stored)
    assert found == REVISION
    assert (found.model, found.hash, found.number) == ("llama", revision_hash(LLAMA.spec), 1)
    assert controller_revision(LLAMA, found.hash, 1, found.record) == REVISION.manifest


def test_a_record_keeps_what_a_newer_release_added_readable() -> None:
    stored = json.loads(json.dumps(REVISION.manifest))
    stored["data"]["addedLater"] = {"x": 1}
    assert parse_revision(stored).record == record(LLAMA)


@pytest.mark.parametrize("spec", [{}, {"runtime": {"engine": "CPU"}}, {"hardware": {"target": "CPU"}}])
@pytest.mark.parametrize("later", [{}, {"runtime": {"engine": "CPU"}}, {"hardware": {"target": "CPU"}}])
def test_auto_and_what_it_stood_for_are_one_revision(spec: dict[str, Any], later: dict[str, Any]) -> None:
    recorded = record(model(spec))
    assert fits(recorded, model(later).spec)
    assert not fits(recorded, model({**later, "shapes": {"maxBatchSize": 2}}).spec)


def test_auto_is_no_other_than_what_it_stood_for() -> None:
    recorded = record(LLAMA)
    elsewhere = recorded.model_copy(update={"plan": recorded.plan.model_copy(update={"target": "Inf2"})})
    assert fits(elsewhere, LLAMA.spec)
    assert not fits(elsewhere, model({"hardware": {"target": "CPU"}}).spec)


FORGED: dict[str, dict[str, Any]] = {
    "another store": {"store": {**REVISION.record.store.to_document(), "domain": "ns/another"}},
    "a newer contract": {"contractVersion": 2},
    "no spec": {"deployment": {"metadata": {}}},
    "nothing": {"request": None},
}


@pytest.mark.parametrize("case", FORGED)
def test_a_record_that_is_not_ours_is_not_read(case: str) -> None:
    stored = json.loads(json.dumps(REVISION.manifest))
    stored["data"] |= FORGED[case]
    with pytest.raises(ValidationError):
        parse_revision(stored)


def test_a_record_does_not_say_whose_the_deployment_is_or_where() -> None:
    stored = json.loads(json.dumps(REVISION.manifest))
    stored["data"]["deployment"] |= {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": "admin",
            "namespace": "kube-system",
            "ownerReferences": [],
            "annotations": {"role": "admin"},
            "labels": {names.MODEL_LABEL: "another", names.MANAGED_BY_LABEL: "me", "theirs": "stays"},
        },
    }
    rendered = REVISION.record.deployment
    found = recorded_deployment(LLAMA, parse_revision(stored))
    expected = {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.MODEL_LABEL: "llama", "theirs": "stays"}
    assert found == rendered | {"metadata": rendered["metadata"] | {"labels": expected}}
    assert recorded_deployment(LLAMA, REVISION) == rendered


def test_accounts_carry_the_platforms_annotations_and_no_owner() -> None:
    identities = Identities(compile_annotations={"role": "c"})
    compile_account, serving_account = service_accounts("ml", identities)
    assert compile_account["metadata"]["annotations"] == {"role": "c"}
    assert "annotations" not in serving_account["metadata"]
    used = {template(kind)["spec"]["serviceAccountName"] for kind in WORKLOADS}
    assert used == {account["metadata"]["name"] for account in (compile_account, serving_account)}
    assert all("ownerReferences" not in account["metadata"] for account in (compile_account, serving_account))
