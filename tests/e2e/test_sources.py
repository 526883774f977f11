"""Sources that the operator does not read itself: inspected by a Job with the tenant's rights, compiled, served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from neuron_localcluster.standins.tiny_llama import tiny_llama
from support.operator import BUCKET, InstalledOperator
from support.scripted_hub import ScriptedHub, scripted_hub
from support.waiting import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

_TOKEN = "hf_gatekeeper"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A model that only this module has, by file name."""
    folder = tmp_path_factory.mktemp("model")
    tiny_llama(folder, seed=11)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def gated_hub(files: dict[str, bytes]) -> Iterator[ScriptedHub]:
    """Another hub than the platform's, which answers to those alone who bring the token."""
    with scripted_hub(files) as hub:
        hub.token = _TOKEN
        yield hub


def test_a_gated_repository_is_read_with_its_token_by_jobs_alone(
    operator: InstalledOperator, namespace: str, gated_hub: ScriptedHub
) -> None:
    source = {
        "repo": "team/model",
        "endpoint": gated_hub.endpoint,
        "tokenSecretRef": {"name": "hugging-face", "key": "token"},
    }
    operator.kubectl("create", "-f", "-", document=_model(operator, namespace, "llama", huggingFace=source))

    # Without the Secret the resource says which one is missing, and what to do.
    refused = operator.wait_for_condition(
        namespace, "llama", "SourceResolved", lambda found: found["reason"] == "TokenMissing"
    )
    assert refused["status"] == "False"
    assert "hugging-face" in refused["message"]
    assert "model.huggingFace.tokenSecretRef" in refused["message"]
    failure = operator.status(namespace, "llama")["lastFailure"]
    assert (failure["code"], failure["stage"], failure["exitCode"]) == ("SourceTokenMissing", "Resolve", 75)
    assert gated_hub.requests == []

    # The remedy that it names.
    operator.kubectl("create", "secret", "generic", "hugging-face", "-n", namespace, f"--from-literal=token={_TOKEN}")
    operator.kubectl("delete", "job", "-n", namespace, "--all", "--wait=false")
    operator.wait_until_ready(namespace, "llama")

    status = operator.status(namespace, "llama")
    assert (status["source"]["kind"], status["source"]["location"]) == ("HuggingFace", "team/model")
    assert status["artifact"]["reused"] is False
    assert "lastFailure" not in status
    _assert_answers(operator, namespace, "llama")
    _assert_no_jobs(operator, namespace)
    # The token went where it was meant to go, and the operator has not so much as tried to see it.
    assert {request.authorization for request in gated_hub.requests if request.host == "127.0.0.1"} == {
        f"Bearer {_TOKEN}"
    }
    (server,) = operator.kubectl.json("get", "pod", "-n", namespace)["items"]
    assert not [volume for volume in server["spec"]["volumes"] if "secret" in volume]
    assert operator.refusals() == []
    created = operator.writes(namespace)["create", "jobs"]

    # What was compiled here is served elsewhere as it is: no hub, no compile.
    artifact = {"uri": status["artifact"]["uri"], "digest": status["artifact"]["digest"]}
    gated_hub.requests.clear()
    manifest = _model(operator, namespace, "brought", compiledArtifact=artifact)
    del manifest["spec"]["artifactStore"]
    operator.kubectl("create", "-f", "-", document=manifest)
    operator.wait_until_ready(namespace, "brought")
    brought = operator.status(namespace, "brought")
    assert brought["source"]["kind"] == "CompiledArtifact"
    assert brought["artifact"]["reused"] is True
    assert brought["artifact"]["uri"] == status["artifact"]["uri"]
    _assert_answers(operator, namespace, "brought")
    assert operator.writes(namespace)["create", "jobs"] == created + 1, "an inspection, and no compile"
    assert gated_hub.requests == []


@pytest.mark.slow
def test_a_folder_of_a_bucket_becomes_a_served_model(
    operator: InstalledOperator, namespace: str, files: dict[str, bytes]
) -> None:
    for name, content in files.items():
        operator.s3.put_object(Bucket=BUCKET, Key=f"models/tiny/{name}", Body=content)
    uri = f"s3://{BUCKET}/models/tiny"

    operator.kubectl("create", "-f", "-", document=_model(operator, namespace, "llama", s3={"uri": uri}))
    operator.wait_until_ready(namespace, "llama")

    status = operator.status(namespace, "llama")
    assert (status["source"]["kind"], status["source"]["location"]) == ("S3", uri)
    assert status["source"]["sizeBytes"] > 0
    _assert_answers(operator, namespace, "llama")
    _assert_no_jobs(operator, namespace)


def _model(operator: InstalledOperator, namespace: str, name: str, **source: Any) -> dict[str, Any]:
    manifest = operator.manifest(namespace, name, "")
    manifest["spec"]["model"] = source
    # As few graphs as there can be.
    manifest["spec"]["shapes"] = {"maxModelLength": 64, "maxBatchSize": 1}
    return manifest


def _assert_answers(operator: InstalledOperator, namespace: str, name: str) -> None:
    client = openai.OpenAI(base_url=operator.endpoint(namespace, name), api_key="none", max_retries=0)
    answer = client.completions.create(model=name, prompt="Hello", max_tokens=4, temperature=0)
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 4


def _assert_no_jobs(operator: InstalledOperator, namespace: str) -> None:
    """What Jobs have found is recorded; they are deleted, and their pods with them."""

    def none_left() -> bool | None:
        return None if operator.kubectl.json("get", "job", "-n", namespace)["items"] else True

    wait_for("no Jobs", none_left, seconds=60)
