"""Who compiles, whether a failed compile is tried again, and when progress is worth a write."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_operator.api.objects import Key
from neuron_operator.diagnosis.catalogue import OUT_OF_MEMORY, POD_LOST, POD_NEVER_RAN, TIMED_OUT, UNKNOWN
from neuron_operator.diagnosis.containers import Diagnosis
from neuron_operator.model.policies import (
    Claim,
    GiveUp,
    RetryLater,
    RetryNow,
    ShownProgress,
    holder,
    progress_to_show,
    retry,
)
from neuron_runtime.contract.outcome import FailureCode
from neuron_runtime.contract.progress import Progress, Stage
from support.models import NOW

KILLED = Diagnosis(OUT_OF_MEMORY, "killed")


def claim(name: str, settings: str = "usual", **fields: Any) -> Claim:
    return Claim(Key("ml", name), settings, **fields)


# By age.
HOLDERS = {
    "nobody": ([], None),
    "the oldest": ([claim("old"), claim("young")], "old"),
    "a failure of one's own passes the flight on": (
        [claim("old", gave_up=KILLED, failed_for_own_reason=True), claim("young")],
        "young",
    ),
    "a refusal does, too": ([claim("old", failed_for_own_reason=True), claim("young")], "young"),
    "a failure of the inputs does not": ([claim("old", gave_up=KILLED), claim("young")], "old"),
    "a failure of the settings passes it on to others": (
        [claim("old", "less memory", gave_up=KILLED), claim("alike", "less memory"), claim("young")],
        "young",
    ),
    "a failure of the settings stops all who have the same": (
        [claim("old", "less memory", gave_up=KILLED), claim("alike", "less memory")],
        None,
    ),
    "who has the artifact is not waited for": ([claim("old", has_artifact=True), claim("young")], "young"),
    "nobody but those who have it": ([claim("old", has_artifact=True)], None),
    "nobody may": (
        [claim("a", failed_for_own_reason=True), claim("b", gave_up=KILLED, failed_for_own_reason=True)],
        None,
    ),
    "who gave up still holds when it alone wants it": ([claim("only", gave_up=KILLED)], "only"),
}


@pytest.mark.parametrize("case", HOLDERS)
def test_holder(case: str) -> None:
    claims, expected = HOLDERS[case]
    found = holder(claims, {"less memory"})
    assert (found.key.name if found is not None else None) == expected


def failure(code: str, seconds_ago: float | None = 0.0) -> Diagnosis:
    if seconds_ago is None:
        return Diagnosis(code, "It broke")
    moment = NOW - timedelta(seconds=seconds_ago)
    return Diagnosis(code, "It broke", time=moment.isoformat().replace("+00:00", "Z"))


TRANSIENT, ACCESS = FailureCode.SOURCE_UNREACHABLE.value, FailureCode.STORE_ACCESS_DENIED.value

RETRIES = {
    "first failure waits": (failure(UNKNOWN), 1, 0, 3, RetryLater(10)),
    "part of the pause is over": (failure(UNKNOWN, 4), 1, 0, 3, RetryLater(6)),
    "the pause is over": (failure(UNKNOWN, 10), 1, 0, 3, RetryNow(1)),
    "pauses double": (failure(UNKNOWN), 2, 1, 3, RetryLater(20)),
    "attempts are used up": (failure(UNKNOWN, 10**6), 3, 2, 3, GiveUp()),
    "one attempt allowed": (failure(UNKNOWN, 10**6), 1, 0, 1, GiveUp()),
    "transient failures use up nothing": (failure(TRANSIENT, 10**6), 9, 2, 3, RetryNow(2)),
    "a lost pod uses up nothing": (failure(POD_LOST, 10**6), 3, 0, 1, RetryNow(0)),
    "pauses end at five minutes": (failure(TRANSIENT), 40, 0, 3, RetryLater(300)),
    "months of transient failures": (failure(TRANSIENT), 100_000, 0, 3, RetryLater(300)),
    "the inputs' own fault": (failure(FailureCode.UNSUPPORTED_MODEL.value, 10**6), 1, 0, 3, GiveUp()),
    "timed out": (failure(TIMED_OUT, 10**6), 1, 0, 3, GiveUp()),
    "out of memory": (failure(FailureCode.OUT_OF_MEMORY.value, 10**6), 1, 0, 3, GiveUp()),
    "another source than was decided on": (failure(FailureCode.SOURCE_CHANGED.value, 10**6), 1, 0, 3, GiveUp()),
    "a pod that never ran waits for somebody": (failure(POD_NEVER_RAN), 1, 0, 3, GiveUp(300)),
    "what kept a pod from running may be mended": (failure(POD_NEVER_RAN, 300), 9, 0, 3, RetryNow(0)),
    "credentials wait for somebody": (failure(ACCESS), 1, 2, 3, GiveUp(300)),
    "credentials may be mended": (failure(ACCESS, 299), 9, 2, 3, GiveUp(1)),
    "credentials are tried again, which is no attempt": (failure(ACCESS, 300), 9, 2, 3, RetryNow(2)),
    "so is a bucket": (failure(FailureCode.STORE_BUCKET_NOT_FOUND.value, 300), 1, 0, 1, RetryNow(0)),
    "so is a source that was private": (failure(FailureCode.SOURCE_ACCESS_DENIED.value, 300), 1, 0, 1, RetryNow(0)),
    "so is a source that was not there": (failure(FailureCode.SOURCE_NOT_FOUND.value, 300), 1, 0, 1, RetryNow(0)),
    "nobody knows when": (failure(UNKNOWN, None), 1, 0, 3, RetryNow(1)),
}


@pytest.mark.parametrize("case", RETRIES)
def test_retry(case: str) -> None:
    diagnosis, attempt, failures, maximum, expected = RETRIES[case]
    found = retry(diagnosis, attempt=attempt, failures_before=failures, max_attempts=maximum, now=NOW)
    assert found == expected


SHOWN = ShownProgress(Progress(stage=Stage.FETCHING, done=20, total=100), NOW)
MINUTE = timedelta(seconds=60)

PROGRESS = {
    "no news": (SHOWN, None, MINUTE, SHOWN),
    "no news at all": (None, None, MINUTE, None),
    "the first": (None, SHOWN.progress, timedelta(), SHOWN),
    "a new stage at once": (SHOWN, Progress(stage=Stage.COMPILING), timedelta(seconds=1), None),
    "too soon": (SHOWN, Progress(stage=Stage.FETCHING, done=90, total=100), timedelta(seconds=59), SHOWN),
    "too little": (SHOWN, Progress(stage=Stage.FETCHING, done=29, total=100), MINUTE, SHOWN),
    "enough of both": (SHOWN, Progress(stage=Stage.FETCHING, done=30, total=100), MINUTE, None),
    "backwards": (SHOWN, Progress(stage=Stage.FETCHING, done=1, total=100), MINUTE, SHOWN),
}


@pytest.mark.parametrize("case", PROGRESS)
def test_progress_to_show(case: str) -> None:
    shown, current, later, expected = PROGRESS[case]
    found = progress_to_show(shown, current, NOW + later)
    if expected is None and current is not None:
        expected = ShownProgress(current, NOW + later)
    assert found == expected


@given(st.lists(st.integers(0, 100), min_size=1, max_size=200), st.integers(1, 30))
def test_progress_is_written_at_most_once_a_minute_and_stage(percents: list[int], seconds: int) -> None:
    shown: ShownProgress | None = None
    writes = []
    for step, percent in enumerate(percents):
        now = NOW + timedelta(seconds=step * seconds)
        following = progress_to_show(shown, compiling(percent), now)
        if following != shown:
            writes.append(now)
        shown = following
    assert all(later - earlier >= MINUTE for earlier, later in pairwise(writes))


def compiling(percent: int) -> Progress:
    return Progress(stage=Stage.COMPILING, done=percent, total=100)
