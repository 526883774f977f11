"""The CRD on a real API server: what it completes, what it shows, and what it answers to wrong objects."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.settings import ROOT
from neuron_operator.api.conditions import Condition, ConditionType, Reason, set_conditions
from neuron_operator.api.impact import revision_hash
from neuron_operator.api.status import (
    ArtifactStatus,
    CompileStatus,
    LastFailure,
    MemoryStatus,
    Phase,
    PlanStatus,
    RevisionsStatus,
    ServingStatus,
    SourceStatus,
    Status,
    WaitingFor,
)
from neuron_operator.api.v1alpha1 import NeuronModel
from support.definition import definition_installed
from support.kubectl import Kubectl

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def ctl(kubectl: Kubectl) -> Iterator[Kubectl]:
    """kubectl against a cluster that has the CRD; the CRD goes again if it came with these tests."""
    with definition_installed(kubectl):
        yield kubectl


def model(spec: dict[str, Any] | None = None, name: str = "llama", **top: Any) -> dict[str, Any]:
    return {
        "apiVersion": "neuron-operator.dev/v1alpha1",
        "kind": "NeuronModel",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"model": {"huggingFace": {"repo": "org/llama"}}, **(spec or {})},
        **top,
    }


def dry_run(ctl: Kubectl, document: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return ctl.run("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", document=document)


def source(**fields: Any) -> dict[str, Any]:
    return {"model": {"huggingFace": {"repo": "org/llama", **fields}}}


def store(**fields: Any) -> dict[str, Any]:
    return {"artifactStore": {"s3": {"bucket": "artifacts", **fields}}}


ARTIFACT = {
    "uri": f"s3://artifacts/teams/ml/ns/team/artifacts/{'0' * 64}/",
    "digest": f"sha256:{'0' * 64}",
}


def s3(**fields: Any) -> dict[str, Any]:
    return model({"model": {"s3": fields}})


def claim(**fields: Any) -> dict[str, Any]:
    return model({"model": {"persistentVolumeClaim": fields}})


def artifact(**fields: Any) -> dict[str, Any]:
    return model({"model": {"compiledArtifact": {**ARTIFACT, **fields}}})


def buckets(lengths: list[int]) -> dict[str, Any]:
    return model({"shapes": {"maxModelLength": 512, "buckets": {"contextLengths": lengths}}})


def limits(cpu: Any) -> dict[str, Any]:
    return {"serving": {"resources": {"limits": {"cpu": cpu}}}}


def test_the_smallest_object_is_completed_to_what_the_models_hold(ctl: Kubectl) -> None:
    answer = dry_run(ctl, model())
    assert answer.returncode == 0, answer.stderr
    created = json.loads(answer.stdout)
    assert created["spec"] == {
        "model": {
            "huggingFace": {"repo": "org/llama", "revision": "main"},
            "allowPickle": False,
            "task": "TextGeneration",
        },
        "runtime": {"engine": "Auto"},
        "shapes": {"maxBatchSize": 4, "buckets": {}, "dtype": "Float32", "quantization": "None"},
        "hardware": {"target": "Auto"},
        "compile": {"timeout": "2h", "retry": {"maxAttempts": 3}},
        "serving": {"replicas": 1},
        "suspend": False,
    }
    completed = NeuronModel.parse(created).spec
    assert completed == NeuronModel.parse({**created, "spec": model()["spec"]}).spec
    assert revision_hash(completed) == revision_hash(NeuronModel.parse({**created, "spec": model()["spec"]}).spec)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_taken_as_they_are(ctl: Kubectl, example: Path) -> None:
    answer = ctl.run("create", "--dry-run=server", "--validate=strict", "-f", str(example))
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""


FULL = {
    "model": {
        "huggingFace": {
            "repo": "org/llama",
            "revision": "refs/pr/1",
            "endpoint": "https://hub.example.com:8443/models",
            "tokenSecretRef": {"name": "hugging-face", "key": "token"},
        },
        "allowPickle": True,
        "servedName": "org/llama:chat",
        "task": "Embedding",
    },
    "runtime": {"engine": "CPU"},
    "shapes": {
        "maxModelLength": 512,
        "maxBatchSize": 1,
        "buckets": {"contextLengths": [16, 512]},
        "dtype": "Float32",
        "quantization": "Int8",
    },
    "hardware": {"target": "CPU"},
    "compile": {"timeout": "1h30m", "retry": {"maxAttempts": 1}, "resources": {"requests": {"cpu": "500m"}}},
    "artifactStore": {"s3": {"bucket": "my.artifacts-1", "prefix": "teams/ml", "region": "us-gov-west-1"}},
    "serving": {"replicas": 0, "resources": {"requests": {"cpu": 2}, "limits": {"memory": "1.5Gi"}}},
    "suspend": True,
}


def test_an_object_with_every_field_is_taken_as_it_is(ctl: Kubectl) -> None:
    answer = dry_run(ctl, model(FULL, name="a" * 45))
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["spec"] == FULL
    assert NeuronModel.parse(json.loads(answer.stdout)).spec.compile.timeout_seconds == 5400


SOURCES = {
    "a folder of a bucket": s3(uri="s3://my.models-1/teams/ml/llama_3(8b)!/", region="us-gov-west-1"),
    "a bucket": s3(uri="s3://models"),
    "a folder of a claim": claim(claimName="models.v1", path="teams/ml/llama/"),
    "a claim": claim(claimName="models"),
    "an artifact": artifact(),
    "an artifact without a slash": artifact(uri=ARTIFACT["uri"].rstrip("/")),
}


@pytest.mark.parametrize("case", SOURCES)
def test_every_kind_of_source_is_taken(ctl: Kubectl, case: str) -> None:
    document = SOURCES[case]
    answer = dry_run(ctl, document)
    assert answer.returncode == 0, answer.stderr
    kind, given = next(iter(document["spec"]["model"].items()))
    found = json.loads(answer.stdout)["spec"]["model"][kind]
    assert {name: found[name] for name in given} == given
    NeuronModel.parse(json.loads(answer.stdout))


# What is wrong, the field as the answer names it, and what the answer says to do.
INVALID = {
    "name starts with a digit": (model(name="3-llama"), "metadata.name", "choose another"),
    "name with a dot": (model(name="llama.3"), "metadata.name", "choose another"),
    "name too long": (model(name="a" * 46), "metadata.name", "at most 45 characters"),
    "no source": (model({"model": {}}), "spec.model", "exactly one source"),
    "two sources": (
        model({"model": {"huggingFace": {"repo": "org/llama"}, "s3": {"uri": "s3://models/llama"}}}),
        "spec.model",
        "exactly one source",
    ),
    "a claim and an artifact": (
        model({"model": {"persistentVolumeClaim": {"claimName": "models"}, "compiledArtifact": ARTIFACT}}),
        "spec.model",
        "exactly one source",
    ),
    "endpoint without scheme": (
        model(source(endpoint="hub.example.com")),
        "spec.model.huggingFace.endpoint",
        "for example https://hub.example.com",
    ),
    "endpoint with a slash": (
        model(source(endpoint="https://hub.example.com/")),
        "spec.model.huggingFace.endpoint",
        "without a slash at its end",
    ),
    "endpoint with a password": (
        model(source(endpoint="https://me:secret@hub.example.com")),
        "spec.model.huggingFace.endpoint",
        "the hub's address",
    ),
    "token of no Secret": (
        model(source(tokenSecretRef={"name": "", "key": "token"})),
        "spec.model.huggingFace.tokenSecretRef.name",
        "for example hugging-face",
    ),
    "token without a key": (
        model(source(tokenSecretRef={"name": "hugging-face"})),
        "spec.model.huggingFace.tokenSecretRef.key",
        "Required value",
    ),
    "key with a slash": (
        model(source(tokenSecretRef={"name": "hugging-face", "key": "../token"})),
        "spec.model.huggingFace.tokenSecretRef.key",
        "for example token",
    ),
    "a bucket without scheme": (s3(uri="models/llama"), "spec.model.s3.uri", "for example s3://my-models/llama-3-8b"),
    "a folder that climbs": (s3(uri="s3://models/../llama"), "spec.model.s3.uri", "must not contain '..'"),
    "a region of words": (
        s3(uri="s3://models", region="Frankfurt"),
        "spec.model.s3.region",
        "for example eu-central-1",
    ),
    "a claim by path": (
        claim(claimName="models/llama"),
        "spec.model.persistentVolumeClaim.claimName",
        "for example models",
    ),
    "a path from the root": (
        claim(claimName="models", path="/llama"),
        "spec.model.persistentVolumeClaim.path",
        "without a leading slash",
    ),
    "a path that climbs": (
        claim(claimName="models", path="a/../../b"),
        "spec.model.persistentVolumeClaim.path",
        "must not contain '..'",
    ),
    "an artifact by its store": (
        artifact(uri="s3://artifacts"),
        "spec.model.compiledArtifact.uri",
        "what status.artifact.uri says",
    ),
    "a digest that is none": (
        artifact(digest="936f3e9d"),
        "spec.model.compiledArtifact.digest",
        "what status.artifact.digest says",
    ),
    "allowing with a word": (
        model({"model": {"huggingFace": {"repo": "org/llama"}, "allowPickle": "yes"}}),
        "spec.model.allowPickle",
        "type boolean",
    ),
    "no spec": (model(spec=None) | {"spec": {}}, "spec.model", "Required value"),
    "source without repo": (model({"model": {"huggingFace": {}}}), "spec.model.huggingFace.repo", "Required value"),
    "repo is a URL": (
        model(source(repo="https://hub/org/llama")),
        "spec.model.huggingFace.repo",
        "without a host name",
    ),
    "repo too deep": (model(source(repo="a/b/c")), "spec.model.huggingFace.repo", "for example HuggingFaceTB/"),
    "repo too long": (model(source(repo="a" * 201)), "spec.model.huggingFace.repo", "200"),
    "revision climbs": (model(source(revision="a/../b")), "spec.model.huggingFace.revision", "branch, tag or commit"),
    "revision with a space": (model(source(revision="a b")), "spec.model.huggingFace.revision", "for example main"),
    "served name": (
        model({"model": {"huggingFace": {"repo": "org/llama"}, "servedName": "my model"}}),
        "spec.model.servedName",
        "for example my-model",
    ),
    "engine": (model({"runtime": {"engine": "vllm"}}), "spec.runtime.engine", 'supported values: "Auto", "CPU"'),
    "target": (model({"hardware": {"target": "gpu"}}), "spec.hardware.target", 'supported values: "Auto", "CPU"'),
    "dtype": (model({"shapes": {"dtype": "fp32"}}), "spec.shapes.dtype", 'supported values: "Float32"'),
    "quantization": (
        model({"shapes": {"quantization": "int4"}}),
        "spec.shapes.quantization",
        'supported values: "None", "Int8"',
    ),
    "length is text": (model({"shapes": {"maxModelLength": "512"}}), "spec.shapes.maxModelLength", "type integer"),
    "length too small": (model({"shapes": {"maxModelLength": 8}}), "spec.shapes.maxModelLength", "or equal to 16"),
    "batch too small": (model({"shapes": {"maxBatchSize": 0}}), "spec.shapes.maxBatchSize", "or equal to 1"),
    "buckets that fall": (buckets([64, 16]), "spec.shapes.buckets.contextLengths", "must rise"),
    "a bucket twice": (buckets([16, 16]), "spec.shapes.buckets.contextLengths", "no length twice"),
    "no bucket": (buckets([]), "spec.shapes.buckets.contextLengths", "at least 1 items"),
    "too many buckets": (buckets([*range(8, 17)]), "spec.shapes.buckets.contextLengths", "at most 8 items"),
    "a bucket too small": (buckets([4]), "spec.shapes.buckets.contextLengths[0]", "or equal to 8"),
    "a bucket beyond the length": (
        buckets([16, 1024]),
        "spec.shapes.buckets.contextLengths",
        "raise maxModelLength, or leave the longer lengths out",
    ),
    "timeout in words": (model({"compile": {"timeout": "2 hours"}}), "spec.compile.timeout", "for example 1h30m"),
    "timeout of nothing": (model({"compile": {"timeout": "0s"}}), "spec.compile.timeout", "for example 30m"),
    "timeout is empty": (model({"compile": {"timeout": ""}}), "spec.compile.timeout", "for example 30m"),
    "timeout too long": (model({"compile": {"timeout": "169h"}}), "spec.compile.timeout", "at most 168h"),
    "attempts": (model({"compile": {"retry": {"maxAttempts": 0}}}), "spec.compile.retry.maxAttempts", "or equal to 1"),
    "store of no kind": (model({"artifactStore": {}}), "spec.artifactStore", "set spec.artifactStore.s3.bucket"),
    "bucket is a URI": (model(store(bucket="s3://artifacts")), "spec.artifactStore.s3.bucket", "bucket's name alone"),
    "prefix is absolute": (model(store(prefix="/a")), "spec.artifactStore.s3.prefix", "without a leading slash"),
    "prefix climbs": (model(store(prefix="a/../b")), "spec.artifactStore.s3.prefix", "must not contain '..'"),
    "region": (model(store(region="Frankfurt")), "spec.artifactStore.s3.region", "for example eu-central-1"),
    "replicas": (model({"serving": {"replicas": -1}}), "spec.serving.replicas", "or equal to 0"),
    "amount in words": (model(limits("two")), "spec.serving.resources.limits", "for example 500m, 2 or 4Gi"),
    "amount is negative": (model(limits(-1)), "spec.serving.resources.limits", "for example 500m, 2 or 4Gi"),
    "misspelled field": (model({"servng": {"replicas": 2}}), 'unknown field "spec.servng"', "strict decoding"),
    "suspend is text": (model({"suspend": "yes"}), "spec.suspend", "type boolean"),
}


@pytest.mark.parametrize("case", INVALID)
def test_the_answer_to_a_wrong_object_names_field_and_remedy(ctl: Kubectl, case: str) -> None:
    document, field, remedy = INVALID[case]
    answer = dry_run(ctl, document)
    assert answer.returncode != 0
    assert field in answer.stderr
    assert remedy in answer.stderr


@pytest.fixture
def created(ctl: Kubectl) -> Iterator[str]:
    """Name of a suspended model, so that an operator in the same cluster has nothing to do with it."""
    name = "crd-test"
    ctl("create", "-f", "-", document=model({"suspend": True}, name=name))
    yield name
    ctl("delete", "neuronmodel", name, "--wait")


def test_short_name_category_columns_and_scale(ctl: Kubectl, created: str) -> None:
    header = ctl("get", "nm", created).splitlines()[0].split()
    assert header == ["NAME", "READY", "STATUS", "MODEL", "HARDWARE", "REPLICAS", "AGE"]
    wide = ctl("get", "neuronmodels", created, "-o", "wide").splitlines()[0].split()
    assert wide == ["NAME", "READY", "STATUS", "MODEL", "HARDWARE", "REPLICAS", "ENDPOINT", "ARTIFACT", "AGE"]
    assert created in ctl("get", "neuron")
    ctl("scale", "nm", created, "--replicas=3")
    assert ctl("get", "nm", created, "-o", "jsonpath={.spec.serving.replicas}") == "3"


def test_a_status_with_everything_in_it_is_stored_as_it_is(ctl: Kubectl, created: str) -> None:
    condition = Condition(
        type=ConditionType.READY, status="True", reason=Reason.READY, message="m" * 2000, observed_generation=1
    )
    status = Status(
        observed_generation=1,
        conditions=set_conditions([], [condition], datetime.now(UTC)),
        phase=Phase.READY,
        message="Ready.",
        source=SourceStatus(repo="org/llama", requested_revision="main", commit="c", digest="d", size_bytes=2**40),
        plan=PlanStatus(
            engine="CPU",
            target="CPU",
            hardware="CPU",
            tensor_parallel_size=1,
            dtype="Float32",
            max_model_length=512,
            max_batch_size=4,
            context_lengths=[64],
            token_generation_batches=[1],
            memory=MemoryStatus(weights_bytes=1, kv_cache_bytes=2, workspace_bytes=3, total_bytes=6),
            explanation="Fits.",
        ),
        artifact=ArtifactStatus(digest="d", uri="s3://b", size_bytes=1, created_at="2026-01-01T00:00:00Z", reused=True),
        compile=CompileStatus(
            job="j",
            attempt=1,
            max_attempts=3,
            stage="Compiling",
            percent=10,
            eta_seconds=60,
            started_at="2026-01-01T00:00:00Z",
        ),
        last_failure=LastFailure(
            stage="Compile",
            code="CompilerFailed",
            message="It failed.",
            remedy="Fix it.",
            retryable=False,
            attempt=1,
            exit_code=1,
            time="2026-01-01T00:00:00Z",
            log_tail="l" * 5000,
        ),
        revisions=RevisionsStatus(active="a", target="b"),
        serving=ServingStatus(endpoint="http://e", deployment="d", ready_replicas=1, replicas="1/1"),
        replicas=1,
        selector="app=llama",
        waiting_for=WaitingFor(reason="Unschedulable", message="No room."),
    )
    assert not [name for name, value in status if value is None]
    live = ctl.json("get", "nm", created)
    del live["metadata"]["resourceVersion"]
    replace = ("replace", "--subresource=status", "--dry-run=server", "--validate=strict", "-f", "-")
    stored = ctl.json(*replace, document={**live, "status": status.to_document()})
    assert stored["status"] == status.to_document()


def test_explain_shows_the_descriptions(ctl: Kubectl) -> None:
    answer = ctl("explain", "neuronmodel.spec.compile.timeout")
    assert "Longest time that one attempt may take" in answer
