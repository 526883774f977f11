"""An artifact on its way: each file is there for whoever waits for it, as soon as it is, or its failure is."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.store import Arrival, Arrived
from support.scripted_manifest import SCRIPTED_MANIFEST

_WAIT = 15.0


def test_a_file_is_waited_for_while_others_are_still_on_their_way() -> None:
    graph_used = threading.Event()

    def fetch(read: Callable[[ArtifactManifest], None], arrived: Arrived) -> None:
        read(SCRIPTED_MANIFEST)
        arrived("graph")
        assert graph_used.wait(_WAIT)
        arrived("weights")

    arrival = Arrival(fetch)
    assert arrival.manifest() == SCRIPTED_MANIFEST
    arrival.file("graph")
    graph_used.set()
    arrival.file("weights")
    arrival.all_files()
    with pytest.raises(FileNotFoundError, match="other"):
        arrival.file("other")


def test_a_failure_is_told_to_whoever_waits() -> None:
    damaged = ContainerFailure(FailureCode.ARTIFACT_DAMAGED, "file weights is damaged")

    def fetch(read: Callable[[ArtifactManifest], None], arrived: Arrived) -> None:
        read(SCRIPTED_MANIFEST)
        raise damaged

    arrival = Arrival(fetch)
    for wait in (lambda: arrival.file("weights"), arrival.all_files):
        with pytest.raises(ContainerFailure) as caught:
            wait()
        assert caught.value is damaged


def test_a_manifest_that_is_refused_is_waited_for_in_vain() -> None:
    missing = ContainerFailure(FailureCode.ARTIFACT_MISSING, "not committed")

    def fetch(read: Callable[[ArtifactManifest], None], arrived: Arrived) -> None:
        raise missing

    with pytest.raises(ContainerFailure) as caught:
        Arrival(fetch).manifest()
    assert caught.value is missing
