"""A start of the server: graphs are loaded while the weights are still on their way, and damage is told as ever."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.request import Engine
from neuron_runtime.contract.store import StoreLocation
from neuron_runtime.engines.base import Session, Wait
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.startup import Startup
from neuron_runtime.serving.state import Phase, ServedModel, ServerState
from neuron_runtime.store import Store
from support.scripted_engine import ScriptedEngine, ScriptedSession, write_snapshot
from support.scripted_manifest import SCRIPTED_MANIFEST

_WAIT = 15.0


class _Engine(ScriptedEngine):
    """Needs a graph, then weights. Takes a file that cannot be read for one that does not fit, as engines do."""

    def __init__(self) -> None:
        super().__init__()
        self.graph_loaded = threading.Event()
        self.session: ScriptedSession | None = None

    def load(self, manifest: ArtifactManifest, artifact: Path, source: Path, threads: int, wait: Wait) -> Session:
        wait("graph")
        script = (artifact / "graph").read_text()
        self.graph_loaded.set()
        try:
            wait("weights")
        except OSError as error:
            raise ContainerFailure(FailureCode.ARTIFACT_INCOMPATIBLE, "a file cannot be loaded") from error
        assert (artifact / "weights").read_text() == "verified"
        self.session = ScriptedSession(script)
        return self.session


class _Store:
    """Holds the weights back until the graph is loaded; then they are there, or not what they should be."""

    def __init__(self, engine: _Engine, state: ServerState, failure: Exception | None = None) -> None:
        self._engine = engine
        self._state = state
        self._failure = failure
        self.phases: list[Phase] = []
        """Of the server, while the weights are on their way, and when all is there."""

    def fetch_source(self, _digest: str, folder: Path, _report: object, wanted: Callable[[str], bool]) -> None:
        write_snapshot(folder)

    def fetch_artifact(
        self,
        _digest: str,
        folder: Path,
        report: Callable[[int, int], None],
        check: Callable[[ArtifactManifest], None],
        arrived: Callable[[str], None],
    ) -> None:
        check(SCRIPTED_MANIFEST)
        folder.mkdir()
        (folder / "graph").write_text("Done.")
        arrived("graph")
        assert self._engine.graph_loaded.wait(_WAIT), "the graph is not loaded before the weights are there"
        report(1, 2)
        self.phases.append(self._state.phase)
        if self._failure is not None:
            raise self._failure
        (folder / "weights").write_text("verified")
        arrived("weights")
        self.phases.append(self._state.phase)


class _Start:
    def __init__(self, folder: Path, failure: Exception | None = None) -> None:
        self.state, self.metrics, self.engine = ServerState(), Metrics(), _Engine()
        self.store = _Store(self.engine, self.state, failure)
        spec = ServingSpec(
            artifact_digest=SCRIPTED_MANIFEST.digest,
            source_digest=SCRIPTED_MANIFEST.request.source_digest,
            engine=Engine.CPU,
            store=StoreLocation(bucket="artifacts", domain="shared"),
            served_name="tiny",
        )
        engine = cast(Any, self.engine)
        self.startup = Startup(spec, cast(Store, self.store), engine, folder, self.state, self.metrics)

    def metric(self, name: str, labels: dict[str, str]) -> float:
        value = self.metrics.registry.get_sample_value(f"neuron_serving_{name}", labels)
        assert value is not None, name
        return value


def test_graphs_are_loaded_before_the_weights_are_there(tmp_path: Path) -> None:
    start = _Start(tmp_path)
    served = start.startup.run()
    assert isinstance(served, ServedModel)
    assert start.store.phases == [Phase.FETCHING, Phase.FETCHING]
    assert start.state.phase is Phase.WARMING_UP


def test_the_start_tells_which_of_its_phases_overlapped(tmp_path: Path) -> None:
    start = _Start(tmp_path)
    start.startup.run()
    begun, lasted = "load_phase_start_seconds", "load_phase_seconds"
    fetching, loading, warming = ({"phase": name} for name in ("Fetching", "Loading", "WarmingUp"))
    fetched = start.metric(begun, fetching) + start.metric(lasted, fetching)
    loaded = start.metric(begun, loading) + start.metric(lasted, loading)
    assert start.metric(begun, loading) < fetched < loaded <= start.metric(begun, warming)
    assert 0 <= start.metric("load_waiting_seconds", {}) <= start.metric(lasted, loading)


def test_weights_that_turn_out_damaged_are_refused_though_graphs_are_loaded(tmp_path: Path) -> None:
    damaged = ContainerFailure(FailureCode.ARTIFACT_DAMAGED, "file weights is damaged")
    start = _Start(tmp_path, damaged)
    with pytest.raises(ContainerFailure) as caught:
        start.startup.run()
    assert caught.value is damaged
    assert start.engine.graph_loaded.is_set()
    assert start.engine.session is None


def test_a_disk_that_is_full_while_the_engine_waits_is_not_taken_for_an_artifact_that_does_not_fit(
    tmp_path: Path,
) -> None:
    start = _Start(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(ContainerFailure) as caught:
        start.startup.run()
    assert caught.value.code is FailureCode.OUT_OF_DISK
    assert start.engine.graph_loaded.is_set()


def test_a_start_that_has_failed_stays_so_whatever_still_arrives() -> None:
    state = ServerState()
    state.fail("the graph does not load")
    state.enter(Phase.LOADING)
    assert state.phase is Phase.FAILED
