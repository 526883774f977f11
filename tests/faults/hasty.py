"""The operator with short waits, so that a life with troubles takes seconds: the same code, other figures."""

from __future__ import annotations

from typing import Any

import kopf

from neuron_operator import app
from neuron_operator.kube import definition, gateway
from neuron_operator.loop import controller, leading, lease, queue, triggers
from neuron_operator.model import policies, reconcile
from neuron_operator.model.phases import artifact, compile, identities, inspect, source, waiting

# How long the operator waits for an answer, as ever: on a busy machine less is not enough.
TIMEOUT_SECONDS = 4.0
RELIST_SECONDS = 1.0
# The API has whole seconds for the duration of a Lease.
SHORT_LEASE_SECONDS = 8
SHORT_GIVE_UP_SECONDS = 6.0

_FIGURES: tuple[tuple[Any, str, float], ...] = (
    (gateway, "_LIST_TIMEOUT_SECONDS", TIMEOUT_SECONDS),
    (definition, "_RETRY_SECONDS", 0.1),
    (lease, "_RENEW_SECONDS", 1.0),
    (lease, "_RETRY_SECONDS", 0.2),
    (lease, "_RENEWAL_RETRY_SECONDS", 0.2),
    (leading, "_RELIST_SECONDS", RELIST_SECONDS),
    (leading, "_RETRY_SECONDS", 0.1),
    (queue, "_LONGEST_BACKOFF_SECONDS", 1.0),
    (controller, "_REJECTED_PAUSE_SECONDS", 0.5),
    (reconcile, "_REFUSED_PAUSE_SECONDS", 0.5),
    (reconcile, "_LEFTOVER_PAUSE_SECONDS", 0.2),
    (policies, "_FIRST_PAUSE_SECONDS", 0.5),
    (policies, "_LONGEST_PAUSE_SECONDS", 1.0),
    (artifact, "_STORE_PAUSE_SECONDS", 0.3),
    (artifact, "_LOOK_AGAIN_SECONDS", 0.5),
    (compile, "_PROGRESS_SECONDS", 0.5),
    (waiting, "_SHARED_SECONDS", 1.0),
    (inspect, "_ANSWER_SECONDS", 0.5),
    (identities, "_LOOK_AGAIN_SECONDS", 0.5),
    (source, "_HUB_PAUSE_SECONDS", 0.3),
    (source, "_LOOK_AGAIN_SECONDS", 0.5),
)


_SHORT_LEASE: tuple[tuple[Any, str, float], ...] = (
    (gateway, "_TIMEOUT_SECONDS", 2.0),
    (lease, "DURATION_SECONDS", SHORT_LEASE_SECONDS),
    (lease, "_GIVE_UP_SECONDS", SHORT_GIVE_UP_SECONDS),
)


def hurry(*, short_lease: bool) -> None:
    """Give this process's operator its short waits; a short lease only where another operator waits for it."""
    for module, name, value in _FIGURES + (_SHORT_LEASE if short_lease else ()):
        assert hasattr(module, name), f"{module.__name__} has no {name}"
        setattr(module, name, value)
    assert app.triggers is triggers
    unhurried = triggers.settings

    def settings(*arguments: Any) -> kopf.OperatorSettings:
        configured = unhurried(*arguments)
        configured.networking.error_backoffs = (0.1,) * 8
        configured.networking.request_timeout = TIMEOUT_SECONDS
        return configured

    triggers.settings = settings
