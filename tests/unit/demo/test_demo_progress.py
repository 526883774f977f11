from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from demo import closing, progress, settings, stages
from demo.screen import Screen
from demo.tools import documents
from neuron_operator.api.status import SourceStatus
from neuron_operator.settings import PlatformSettings


def model(*true: str, generation: int = 1, observed: int = 1, **status: Any) -> dict[str, Any]:
    """A NeuronModel of which these conditions are true."""
    conditions = [{"type": kind, "status": "True", "message": f"{kind} it is"} for kind in true]
    return {
        "metadata": {"generation": generation},
        "status": {"observedGeneration": observed, "conditions": conditions, **status},
    }


@pytest.mark.parametrize(
    ("true", "count"),
    [
        ((), 0),
        (("SourceResolved",), 1),
        (("SourceResolved", "Planned"), 2),
        (("SourceResolved", "Compiled"), 1),
        (("SourceResolved", "Planned", "Compiled", "Ready"), 4),
    ],
)
def test_milestones_are_passed_in_their_order(true: tuple[str, ...], count: int) -> None:
    assert progress.reached(model(*true)) == count


def test_status_of_an_earlier_spec_says_nothing() -> None:
    stale = model("SourceResolved", "Planned", "Compiled", "Ready", "Stalled", generation=2, observed=1)

    assert progress.reached(stale) == 0
    assert progress.failure(stale) is None


def test_model_without_a_status_has_passed_nothing() -> None:
    assert progress.reached({"metadata": {"generation": 1}}) == 0
    assert progress.summary({"metadata": {"generation": 1}}, 0) == ""


def test_failure_comes_with_its_remedy_and_the_end_of_the_log() -> None:
    last = {"stage": "Compile", "code": "X", "message": "m", "remedy": "Add memory", "logTail": "one\ntwo"}

    failure = progress.failure(model("Stalled", lastFailure=last))

    assert failure == progress.Failure("Stalled it is", "Add memory", ("one", "two"), in_container=False)


def test_retries_are_not_a_failure() -> None:
    assert progress.failure(model("Reconciling", lastFailure={"message": "once"})) is None


def test_source_is_named_as_the_operator_names_it() -> None:
    source = SourceStatus(kind="HuggingFace", location="org/llama", commit="c" * 40, size_bytes=2**20)

    assert progress.summary(model("SourceResolved", source=source.to_document()), 0) == (
        f"org/llama at commit {'c' * 12}, 1 MiB"
    )


@pytest.mark.parametrize(("reused", "words"), [(True, "found in the store"), (False, "MiB, compiled")])
def test_artifact_is_said_to_be_found_or_compiled(reused: bool, words: str) -> None:
    artifact = {"digest": f"sha256:{'a' * 64}", "sizeBytes": 2**20, "reused": reused}

    assert words in progress.summary(model("Compiled", artifact=artifact), 2)


def test_pod_that_waits_says_why() -> None:
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    pod = {
        "metadata": {"name": "p"},
        "status": {"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]},
    }

    assert progress.describe_pod(pod) == ["pod p is Pending", "pod p: waiting ErrImagePull no such image"]


@pytest.mark.parametrize(
    ("status", "rolled_out"),
    [
        ({}, False),
        ({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, True),
        ({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}, False),
    ],
)
def test_deployment_is_rolled_out_once_only_new_pods_are_left(status: dict[str, int], rolled_out: bool) -> None:
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": status}

    assert progress.is_rolled_out(deployment) is rolled_out


def test_objects_are_cut_out_of_a_watch_as_kubectl_prints_it() -> None:
    objects = [{"a": {"b": [1, {}]}}, {"c": "}"}, {}]
    lines = "".join(json.dumps(item, indent=4) + "\n" for item in objects if item).splitlines(keepends=True)

    assert list(documents(iter(lines))) == objects[:2]


def test_pods_compile_with_the_compiler_that_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where no pod would find it by name.
    program = tmp_path / "g++"
    program.write_text("#!/bin/sh\necho 99.1.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    compiler = stages.check_machine(Screen(io.StringIO(), io.StringIO()))
    images = settings.images(Path("/environment/bin"), compiler.program)

    assert compiler.version == "g++-99"
    assert images[settings.COMPILE_IMAGE] == {"path": "/environment/bin", "env": {"CXX": str(program)}}


def test_the_line_to_paste_survives_a_space() -> None:
    line = closing.environment_line(Path("/my data/admin.kubeconfig"), Path("/cache/clients"))
    assert line == "export KUBECONFIG='/my data/admin.kubeconfig' PATH=/cache/clients:$PATH"


def test_chart_values_are_settings_that_the_operator_takes() -> None:
    values = settings.chart_values(
        hub="http://127.0.0.1:1", aws="http://127.0.0.1:2", region="us-east-1", torch="2.13.0", cxx="g++-12"
    )

    platform = PlatformSettings.model_validate(values["platform"])

    assert platform.hugging_face.endpoint == "http://127.0.0.1:1"
    assert platform.pod_environment["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:2"
    assert platform.cpu.toolchain == {"torch": "2.13.0", "cxx": "g++-12", "march": "x86-64-v3"}
