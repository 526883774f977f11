"""Decisions about compiling: who compiles, whether to try again, and when progress is worth a write. Pure."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from neuron_operator.api.objects import Key
from neuron_operator.diagnosis.catalogue import RetryClass
from neuron_operator.diagnosis.containers import Diagnosis
from neuron_runtime.contract.progress import Progress

from .serving_state import Trouble

_FIRST_PAUSE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 300.0
# Transient failures use up no attempt, so that attempts may run into thousands; a float's exponent may not.
_MOST_DOUBLINGS = 10
_SHOWN_STEP_PERCENT = 10
_SHOWN_STEP = timedelta(seconds=60)


@dataclass(frozen=True)
class Claim:
    """A model that wants an artifact."""

    key: Key
    settings: str
    """Digest of its spec.compile."""
    gave_up: Diagnosis | None = None
    """Why its compile failed, if it makes no further attempt."""
    failed_for_own_reason: bool = False
    """Its compile failed, or could not be started, for its own source, credentials, quota or image."""
    standstill: Trouble | None = None
    """Why its Job has not got to run for some minutes."""
    has_artifact: bool = False
    """Its Deployment was made with the artifact, and it has no Job for it: it does not look whether one is needed."""


def holder(claims: Iterable[Claim], failed_settings: Container[str]) -> Claim | None:
    """The one model that starts a compile while no Job is live: of claims by age, the first that may.

    Everybody computes the same answer from the same objects. A failure that comes with the inputs counts for all who
    share them; one of time or memory for all who allow the same; one that is a model's own passes the flight on. Who
    has the artifact is not waited for: should it be gone, whoever misses it compiles.
    """
    may = (
        claim
        for claim in claims
        if not (claim.failed_for_own_reason or claim.has_artifact) and claim.settings not in failed_settings
    )
    return next(may, None)


@dataclass(frozen=True)
class RetryNow:
    """Start the next attempt. `failures` is what its ledger holds."""

    failures: int


@dataclass(frozen=True)
class RetryLater:
    """Start the next attempt in `after` seconds."""

    after: float


@dataclass(frozen=True)
class GiveUp:
    """Make no further attempt until something changes; for what may change unseen, try again in `after` seconds."""

    after: float | None = None


def retry(
    diagnosis: Diagnosis, *, attempt: int, failures_before: int, max_attempts: int, now: datetime
) -> RetryNow | RetryLater | GiveUp:
    """What follows a failed attempt.

    Transient failures use up no attempt; others count, and pauses double from 10 s to 5 min either way. What somebody
    outside may have mended is tried every 5 min, and between its attempts counts as given up.
    """
    if diagnosis.retry in (RetryClass.SPEC, RetryClass.SETTINGS, RetryClass.OWN):
        return GiveUp()
    counted = diagnosis.retry is RetryClass.BUG
    failures = failures_before + (1 if counted else 0)
    if counted and failures >= max_attempts:
        return GiveUp()
    is_access = diagnosis.retry is RetryClass.ACCESS
    doublings = min(attempt - 1, _MOST_DOUBLINGS)
    pause = _LONGEST_PAUSE_SECONDS if is_access else min(_FIRST_PAUSE_SECONDS * 2.0**doublings, _LONGEST_PAUSE_SECONDS)
    waited = (now - datetime.fromisoformat(diagnosis.time)).total_seconds() if diagnosis.time else pause
    if waited >= pause:
        return RetryNow(failures)
    return GiveUp(pause - waited) if is_access else RetryLater(pause - waited)


@dataclass(frozen=True)
class ShownProgress:
    """Progress as the status holds it, and since when."""

    progress: Progress
    since: datetime


def progress_to_show(shown: ShownProgress | None, current: Progress | None, now: datetime) -> ShownProgress | None:
    """Whether newer progress is worth a write: at a new stage, or after a minute and ten percent.

    A pod that does not answer is no news: what was shown stays.
    """
    if current is None:
        return shown
    if shown is None or shown.progress.stage != current.stage:
        return ShownProgress(current, now)
    advanced = current.percent - shown.progress.percent >= _SHOWN_STEP_PERCENT
    if advanced and now - shown.since >= _SHOWN_STEP:
        return ShownProgress(current, now)
    return shown
