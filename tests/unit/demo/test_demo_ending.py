"""How the demo ends: with its terminal, beside another run, and when its cluster does not start."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import __main__ as command
from demo import run, settings, stages
from demo.failure import DemoFailed
from demo.screen import Screen
from neuron_localcluster.binaries.pins import Binaries
from neuron_localcluster.processes import ProcessSpec, ProcessTable
from neuron_localcluster.record import ClusterRecord

_SLEEP = ("/bin/sleep", "600")

# The demo's command around a run that only waits, in a terminal of its own.
_WAITING_DEMO = """
import fcntl, signal, sys, termios
from pathlib import Path
# Whoever runs the tests may have been told to outlive its terminal, and the demo respects that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from demo import __main__, run, settings
state = Path(sys.argv[1])
settings.STATE, settings.CLUSTER = state, state / "cluster"
settings.LOG, settings.LOCK = state / "demo.log", state / "demo.lock"

class Waiting:
    def __init__(self, screen, log):
        self._screen = screen
    def run(self):
        return 0
    def attend(self):
        signal.pause()

run.Demo = Waiting
sys.exit(__main__.main(["up"]))
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "STATE", tmp_path)
    monkeypatch.setattr(settings, "CLUSTER", tmp_path / "cluster")
    monkeypatch.setattr(settings, "LOG", tmp_path / "demo.log")
    monkeypatch.setattr(settings, "LOCK", tmp_path / "demo.lock")
    return tmp_path


@pytest.fixture
def running(state: Path) -> Iterator[ProcessTable]:
    """A cluster of which one process runs."""
    folder = state / "cluster"
    folder.mkdir()
    ClusterRecord().save(folder / "cluster.json")
    table = ProcessTable(str(folder), folder / "run", folder / "logs")
    table.start(ProcessSpec("hub", _SLEEP))
    yield table
    table.sweep()


def test_a_terminal_that_is_closed_ends_the_cluster(state: Path, running: ProcessTable) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING_DEMO, str(state)],
        env=os.environ | {"PYTHONPATH": str(settings.ROOT / "examples")},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            shown = b""
            while b"It runs until Ctrl-C." not in shown:
                shown += os.read(ours, 1 << 16)
            os.close(ours)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()

    assert running.find("hub") is None


def test_a_second_run_leaves_the_first_one_alone(
    state: Path, running: ProcessTable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    settings.LOG.write_text("the first run's")
    with settings.LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert command.main(["up"]) == 1
    assert "another `make demo`" in capsys.readouterr().err
    assert settings.LOG.read_text() == "the first run's"
    assert running.find("hub") is not None


def test_what_runs_of_a_cluster_that_did_not_start_is_told(
    state: Path, running: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: Any) -> None:
        raise DemoFailed("kube-apiserver: not ready after 60 s")

    monkeypatch.setattr(stages, "check_machine", lambda _screen: stages.Compiler("/usr/bin/g++", "g++-12"))
    monkeypatch.setattr(stages, "get_binaries", lambda _screen: Binaries(state / "servers", state / "clients"))
    monkeypatch.setattr(stages, "get_model", lambda _screen: state)
    monkeypatch.setattr(stages, "start_cluster", fails)
    monkeypatch.setattr(run, "prepare", lambda: None)
    stream = io.StringIO()

    assert run.Demo(Screen(stream, io.StringIO()), io.StringIO()).run() == 1
    assert "`make demo-down` ends it" in stream.getvalue()
    assert "admin.kubeconfig" in stream.getvalue()

    running.stop(["hub"])
    stream.truncate(0)
    assert run.Demo(Screen(stream, io.StringIO()), io.StringIO()).run() == 1
    assert "demo-down" not in stream.getvalue()
