"""How a list of conditions follows the one before."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_operator.api.conditions import Condition, ConditionStatus, ConditionType, Reason, rfc3339, set_conditions
from neuron_operator.api.status import LastFailure, Status

EARLIER = datetime(2026, 1, 1, tzinfo=UTC)
LATER = EARLIER + timedelta(hours=1)


def condition(
    type_: ConditionType = ConditionType.READY,
    status: ConditionStatus = "False",
    reason: Reason = Reason.JOB_RUNNING,
    message: str = "Compiling.",
    generation: int = 1,
) -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message, observed_generation=generation)


def test_a_new_condition_starts_now() -> None:
    assert set_conditions([], [condition()], EARLIER) == [
        {
            "type": "Ready",
            "status": "False",
            "reason": "JobRunning",
            "message": "Compiling.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]


def test_the_transition_time_stays_while_only_reason_message_and_generation_change() -> None:
    before = set_conditions([], [condition()], EARLIER)
    (after,) = set_conditions(before, [condition(reason=Reason.LOADING, message="Loading.", generation=2)], LATER)
    assert after["lastTransitionTime"] == rfc3339(EARLIER)
    assert (after["reason"], after["message"], after["observedGeneration"]) == ("Loading", "Loading.", 2)


def test_the_transition_time_moves_with_the_status() -> None:
    before = set_conditions([], [condition()], EARLIER)
    (after,) = set_conditions(before, [condition(status="True", reason=Reason.READY)], LATER)
    assert after["lastTransitionTime"] == rfc3339(LATER)


def test_a_type_that_is_no_longer_desired_disappears_and_starts_anew_when_it_returns() -> None:
    stalled = condition(ConditionType.STALLED, "True", Reason.COMPILE_FAILED)
    before = set_conditions([], [condition(), stalled], EARLIER)
    without = set_conditions(before, [condition()], LATER)
    assert [entry["type"] for entry in without] == ["Ready"]
    again = set_conditions(without, [condition(), stalled], LATER)
    assert again[1]["lastTransitionTime"] == rfc3339(LATER)


def test_reconciling_and_stalled_exclude_each_other() -> None:
    both = [condition(ConditionType.RECONCILING, "True"), condition(ConditionType.STALLED, "True")]
    with pytest.raises(ValueError, match="exclude each other"):
        set_conditions([], both, EARLIER)


def test_a_type_cannot_be_given_twice() -> None:
    with pytest.raises(ValueError, match="given twice"):
        set_conditions([], [condition(), condition()], EARLIER)


def test_moments_are_written_in_utc() -> None:
    assert rfc3339(datetime(2026, 1, 1, 2, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-01T00:00:00Z"


conditions = st.builds(
    condition,
    st.sampled_from([kind for kind in ConditionType if kind is not ConditionType.STALLED]),
    st.sampled_from(["True", "False", "Unknown"]),
    st.sampled_from(Reason),
    st.text(max_size=20),
    st.integers(min_value=0, max_value=9),
)
condition_lists = st.lists(conditions, unique_by=lambda entry: entry.type)


@given(first=condition_lists, second=condition_lists)
def test_the_transition_time_moves_exactly_when_the_status_changes(
    first: list[Condition], second: list[Condition]
) -> None:
    before = set_conditions([], first, EARLIER)
    after = set_conditions(before, second, LATER)
    status_before: dict[str, Any] = {entry["type"]: entry["status"] for entry in before}
    assert {entry["type"] for entry in after} == {entry.type for entry in second}
    for entry in after:
        kept = status_before.get(entry["type"]) == entry["status"]
        assert entry["lastTransitionTime"] == rfc3339(EARLIER if kept else LATER)


@given(desired=condition_lists)
def test_the_same_conditions_again_change_nothing_in_whatever_order(desired: list[Condition]) -> None:
    once = set_conditions([], desired, EARLIER)
    assert set_conditions(once, list(reversed(desired)), LATER) == once


def test_a_status_holds_conditions_and_leaves_out_what_is_absent() -> None:
    written = set_conditions([], [condition()], EARLIER)
    status = Status(observed_generation=3, conditions=written)
    assert status.to_document() == {"observedGeneration": 3, "conditions": written}


def test_long_texts_are_cut_where_it_hurts_least() -> None:
    failure = LastFailure(
        stage="Compile", code="CompilerFailed", message="m" * 5000, log_tail="start" + "x" * 5000 + "end"
    )
    assert failure.message == "m" * 1021 + "..."
    assert failure.log_tail is not None
    assert failure.log_tail.startswith("...x")
    assert failure.log_tail.endswith("xend")
    assert len(failure.log_tail) == 2048
