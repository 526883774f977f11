"""From what a container left behind to a failure with a name, a cause and a remedy."""

from typing import Any

import pytest

from neuron_operator.diagnosis.catalogue import (
    CATALOGUE,
    OUT_OF_MEMORY,
    POD_LOST,
    POD_NEVER_RAN,
    TIMED_OUT,
    UNKNOWN,
    RetryClass,
)
from neuron_operator.diagnosis.containers import Diagnosis, diagnose_termination
from neuron_operator.diagnosis.inspection import of_inspection
from neuron_runtime.contract.outcome import FailureCode, TerminationMessage
from support.models import NOW_TEXT, terminated

# Found without a container: by the Job's condition or the pod's absence.
WITHOUT_CONTAINER = {TIMED_OUT, POD_LOST, POD_NEVER_RAN}


@pytest.mark.parametrize("code", FailureCode)
def test_every_code_of_the_runtime_is_told_with_its_remedy(code: FailureCode) -> None:
    found = diagnose_termination(terminated(code, "It broke"))
    assert found is not None
    assert (found.code, found.message, found.time) == (code.value, "It broke", NOW_TEXT)
    assert found.remedy == CATALOGUE[code.value].remedy
    assert found.retry in RetryClass
    assert found.log_tail is None


def test_no_entry_is_out_of_reach() -> None:
    assert CATALOGUE.keys() == {code.value for code in FailureCode} | {UNKNOWN} | WITHOUT_CONTAINER


@pytest.mark.parametrize("code", CATALOGUE)
def test_a_remedy_is_one_clause_to_which_a_full_stop_can_be_set(code: str) -> None:
    remedy = CATALOGUE[code].remedy
    assert remedy[0].isupper()
    assert not remedy.endswith(".")
    assert len(remedy) <= 160


@pytest.mark.parametrize("brought", [False, True])
@pytest.mark.parametrize("code", CATALOGUE)
def test_what_an_inspection_is_told_names_nothing_that_cannot_help(code: str, brought: bool) -> None:
    found = of_inspection(Diagnosis(code, "It broke"), brought=brought)
    assert (found.code, found.message) == (code, "It broke")
    assert found.remedy[0].isupper()
    assert not found.remedy.endswith(".")
    assert len(found.remedy) <= 160
    # An inspect Job has resources and a limit of its own, and what was brought is never compiled.
    if code in (OUT_OF_MEMORY, TIMED_OUT, POD_LOST):
        assert "compile" not in found.remedy
    if brought and code.startswith(("Artifact", "Store")) and code != FailureCode.ARTIFACT_INCOMPATIBLE.value:
        assert "model.compiledArtifact" in found.remedy
        assert found.retry in (RetryClass.ACCESS, RetryClass.TRANSIENT), "who put it there may put it right"


ENDINGS: dict[str, tuple[dict[str, Any], str, str, str | None]] = {
    "out of memory": (
        {"exitCode": 137, "reason": "OOMKilled", "message": "last words"},
        OUT_OF_MEMORY,
        "memory limit",
        "last words",
    ),
    "killed for another reason": ({"exitCode": 137, "reason": "Error"}, UNKNOWN, "signal 9", None),
    "a traceback": ({"exitCode": 1, "message": "Traceback: boom"}, UNKNOWN, "code 1", "Traceback: boom"),
    "nothing at all": ({"exitCode": 3, "message": None}, UNKNOWN, "code 3", None),
    "JSON of somebody else": (
        {"exitCode": 2, "message": '{"level": "error"}'},
        UNKNOWN,
        "code 2",
        '{"level": "error"}',
    ),
    "success in words, failure in deed": (
        {"exitCode": 1, "message": TerminationMessage(message="made it").encode()},
        UNKNOWN,
        "code 1",
        TerminationMessage(message="made it").encode(),
    ),
    "a code of a newer release": (
        {"exitCode": 1, "message": '{"code":"FromTheFuture","message":"?"}'},
        UNKNOWN,
        "code 1",
        '{"code":"FromTheFuture","message":"?"}',
    ),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_endings_that_are_not_ours(case: str) -> None:
    state, code, message, log_tail = ENDINGS[case]
    found = diagnose_termination(state)
    assert found is not None
    assert found.code == code
    assert message in found.message
    assert found.log_tail == log_tail
    assert found.exit_code == state["exitCode"]


def test_our_message_beats_the_kubelets_reason() -> None:
    found = diagnose_termination(terminated(FailureCode.COMPILER_FAILED) | {"reason": "OOMKilled"})
    assert found is not None
    assert found.code == FailureCode.COMPILER_FAILED.value


def test_a_good_end_is_no_failure() -> None:
    assert diagnose_termination(terminated(None)) is None
    assert diagnose_termination({}) is None


def test_the_end_of_a_long_log_is_kept() -> None:
    found = diagnose_termination({"exitCode": 1, "message": "x" * 4000 + "the cause"})
    assert found is not None
    assert found.log_tail is not None
    assert len(found.log_tail) <= 2048
    assert found.log_tail.endswith("the cause")
