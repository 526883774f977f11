"""The main job on the real thing: chart, operator, compile Job, store, Deployment, server, answer. And how it fails."""

from __future__ import annotations

import json

import openai
import pytest

from support.operator import BUCKET, InstalledOperator
from support.readme import curl
from support.waiting import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]


def test_one_manifest_becomes_a_served_answering_model_and_the_next_one_reuses_it(
    operator: InstalledOperator, namespace: str
) -> None:
    repo = operator.add_tiny_model("main-job", seed=1)

    operator.create(namespace, "llama", repo)
    operator.wait_until_ready(namespace, "llama")

    status = operator.status(namespace, "llama")
    assert status["phase"] == "Ready"
    assert status["artifact"]["reused"] is False
    assert status["serving"]["replicas"] == "1/1"
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Ready": "True",
        "Available": "True",
        "SourceResolved": "True",
        "Planned": "True",
        "Compiled": "True",
    }
    row = operator.kubectl("get", "nm", "llama", "-n", namespace, "--no-headers").split()
    assert row[:6] == ["llama", "True", "Ready", repo, "CPU", "1/1"]
    _assert_answers(operator, namespace, "llama")

    # The same inputs again: the artifact is there, so nothing is compiled.
    operator.create(namespace, "twin", repo)
    operator.wait_until_ready(namespace, "twin")
    twin = operator.status(namespace, "twin")
    assert twin["artifact"]["reused"] is True
    assert twin["artifact"]["digest"] == status["artifact"]["digest"]
    _assert_answers(operator, namespace, "twin")
    assert operator.writes(namespace)["create", "jobs"] == 1

    # A file of the artifact is damaged: a server that starts refuses it, and the resource says so.
    _damage(operator, status["artifact"]["uri"])
    operator.kubectl("delete", "pod", "-n", namespace, "-l", "neuron-operator.dev/model=llama", "--wait=false")
    compiled = operator.wait_for_condition(namespace, "llama", "Compiled", lambda found: found["status"] == "False")
    assert compiled["reason"] == "ArtifactDamaged"
    assert status["artifact"]["uri"] in compiled["message"]
    failure = operator.status(namespace, "llama")["lastFailure"]
    assert (failure["code"], failure["exitCode"]) == ("ArtifactDamaged", 71)
    assert status["artifact"]["uri"] in failure["message"]
    assert "is damaged: its SHA-256 is" in failure["message"]
    assert failure["remedy"] == "Delete the artifact from the store; it is then compiled again"
    assert operator.writes(namespace)["create", "jobs"] == 1, "a damaged artifact must not be compiled over"
    assert operator.refusals() == []


def test_an_operator_that_is_killed_during_a_compile_goes_on_with_the_same_job(
    operator: InstalledOperator, namespace: str
) -> None:
    repo = operator.add_tiny_model("killed", seed=2)
    operator.create(namespace, "llama", repo, shapes={"maxModelLength": 128, "maxBatchSize": 1})
    operator.wait_for_condition(namespace, "llama", "Compiled", lambda found: found["reason"] == "JobRunning")

    before = operator.process().pid
    operator.kill()
    wait_for("a new operator", lambda: _other_process(operator, before), seconds=180)
    operator.wait_until_ready(namespace, "llama")

    assert operator.writes(namespace)["create", "jobs"] == 1
    assert operator.status(namespace, "llama")["artifact"]["reused"] is False


def test_a_model_that_the_hub_does_not_have_says_so(operator: InstalledOperator, namespace: str) -> None:
    operator.create(namespace, "nothing", "tests/no-such-model")

    resolved = operator.wait_for_condition(
        namespace, "nothing", "SourceResolved", lambda found: found["status"] == "False"
    )

    assert resolved["reason"] == "NotFound"
    assert "tests/no-such-model" in resolved["message"]
    assert "model.huggingFace.repo" in resolved["message"]
    status = operator.status(namespace, "nothing")
    assert status["phase"] == "Failed"
    assert operator.condition(namespace, "nothing", "Stalled")["status"] == "True"
    failure = status["lastFailure"]
    assert failure["code"] == "NotFound"
    assert "tests/no-such-model" in failure["message"]
    assert failure["remedy"] == (
        "Check model.huggingFace.repo and model.huggingFace.revision; for a private repository set "
        "model.huggingFace.tokenSecretRef"
    )


def test_an_invalid_manifest_is_answered_with_field_and_remedy(operator: InstalledOperator, namespace: str) -> None:
    manifest = operator.manifest(namespace, "wrong", "org/model")
    manifest["spec"]["artifactStore"] = {"s3": {"bucket": "s3://my-bucket/models"}}

    answer = operator.kubectl.run("create", "-f", "-", document=manifest)

    assert answer.returncode != 0
    assert "spec.artifactStore.s3.bucket" in answer.stderr
    assert "a folder in it goes to spec.artifactStore.s3.prefix" in answer.stderr


def _assert_answers(operator: InstalledOperator, namespace: str, name: str) -> None:
    client = openai.OpenAI(base_url=operator.endpoint(namespace, name), api_key="none", max_retries=0)
    question: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
    whole = client.chat.completions.create(model=name, messages=question, max_tokens=8, temperature=0)
    chunks = client.chat.completions.create(model=name, messages=question, max_tokens=8, temperature=0, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == streamed
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens <= 8
    assert [model.id for model in client.models.list()] == [name]
    readme = curl("/chat/completions", operator.endpoint(namespace, name), name)
    assert readme["choices"][0]["message"]["content"]


def _damage(operator: InstalledOperator, uri: str) -> None:
    """Change one byte of the first file that the manifest names."""
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    manifest = json.loads(operator.s3.get_object(Bucket=BUCKET, Key=f"{prefix}manifest.json")["Body"].read())
    file = manifest["files"][0]
    key = f"{prefix}{file['sha256']}/{file['path']}"
    body = bytearray(operator.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    body[len(body) // 2] ^= 0xFF
    operator.s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(body))


def _other_process(operator: InstalledOperator, pid: int) -> int | None:
    try:
        found = operator.process().pid
    except AssertionError:
        return None
    return found if found != pid else None
