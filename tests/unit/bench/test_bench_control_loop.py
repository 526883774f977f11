"""What the operator benchmark reads off an audit log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control_loop.audit import per_model, reactions, read_writes

_OURS = "neuron-operator"
_OTHERS = "others"


def _event(agent: str, verb: str, resource: str, name: str, received: float, took: float = 0.01) -> dict[str, Any]:
    resource, _, subresource = resource.partition("/")
    return {
        "stage": "ResponseComplete",
        "userAgent": f"{agent}/1 (linux)",
        "verb": verb,
        "objectRef": {"resource": resource, "subresource": subresource, "namespace": "ml", "name": name},
        "requestReceivedTimestamp": _time(received),
        "stageTimestamp": _time(received + took),
        "responseStatus": {"code": 200},
    }


def _time(seconds: float) -> str:
    return f"2026-01-01T00:00:{seconds:09.6f}Z"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    events = [
        _event(_OTHERS, "create", "neuronmodels", "a", 1.0),
        _event(_OURS, "get", "services", "a", 1.1),
        _event(_OURS, "create", "jobs", "a-12345678-1", 1.2),
        _event(_OURS, "create", "events", "a.1234", 1.25),
        _event(_OTHERS, "create", "neuronmodels", "b", 1.3),
        _event(_OTHERS, "patch", "jobs/status", "a-12345678-1", 2.0),
        _event(_OURS, "update", "neuronmodels/status", "a", 2.005),
        _event(_OURS, "patch", "deployments", "a-abc", 2.1),
        _event("kubectl", "patch", "deployments", "a-abc", 2.2),
    ]
    lines = [json.dumps(event) for event in events]
    (tmp_path / "audit-2026-01-01T00-00-02.log").write_text("\n".join(lines[:4]) + "\n")
    path = tmp_path / "audit.log"
    path.write_text("\n".join(lines[4:]) + '\n{"stage": "Respon')
    return path


def test_writes_of_an_agent_are_counted_over_rotated_files_and_without_reads(log: Path) -> None:
    writes = [write for write in read_writes(log, [_OURS]) if not write.is_apart]
    assert per_model(writes, models=2) == {
        "create jobs": 0.5,
        "patch deployments": 0.5,
        "update neuronmodels/status": 0.5,
    }
    assert {write.model for write in writes} == {"a"}


def test_a_reaction_lasts_until_the_answer_to_the_next_write_that_was_begun_afterwards(log: Path) -> None:
    writes = [write for write in read_writes(log, [_OURS]) if not write.is_apart]
    ended = [write for write in read_writes(log, [_OTHERS]) if write.resource == "jobs/status"]
    # The status write was under way when the Job's end was answered.
    assert reactions(ended, writes) == [pytest.approx(0.1, abs=1e-4)]


def test_what_nobody_reacts_to_has_no_reaction(log: Path) -> None:
    writes = read_writes(log, [_OURS])
    created = [write for write in read_writes(log, [_OTHERS]) if write.verb == "create"]
    assert reactions(created, writes) == [pytest.approx(0.2, abs=1e-4)]
