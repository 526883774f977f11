"""Processes that outlive their starter, on real processes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster import proc
from neuron_localcluster.errors import StageFailed
from neuron_localcluster.processes import OWNER_VARIABLE, ProcessSpec, ProcessTable


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    table = ProcessTable(str(tmp_path), tmp_path / "run", tmp_path / "logs")
    yield table
    table.sweep()


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def python(code: str, name: str = "worker", **options: object) -> ProcessSpec:
    return dataclasses.replace(ProcessSpec(name, (sys.executable, "-c", code), grace_seconds=5.0), **options)  # type: ignore[arg-type]


SLEEP = "import time; print('up', flush=True); time.sleep(600)"


def test_a_started_process_is_found_until_it_is_stopped(table: ProcessTable) -> None:
    assert table.start(python(SLEEP))
    process = table.find("worker")
    assert process is not None
    assert process.session == process.pid, "Ctrl-C in the starter's terminal must not reach it"

    table.stop(["worker"])

    assert table.find("worker") is None
    assert not proc.is_running(process)


def test_another_table_of_the_same_folder_finds_it(table: ProcessTable, tmp_path: Path) -> None:
    table.start(python(SLEEP))
    again = ProcessTable(str(tmp_path), tmp_path / "run", tmp_path / "logs")
    assert again.find("worker") == table.find("worker")


def test_what_runs_just_so_is_left_alone_and_a_changed_one_replaced(table: ProcessTable, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("a")
    spec = python(SLEEP, inputs=(config,))
    table.start(spec)
    first = table.find("worker")

    assert not table.start(spec)
    assert table.find("worker") == first

    config.write_text("b")
    assert table.start(spec)
    assert table.find("worker") not in (None, first)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE) as process:
        # Start times have a resolution of 10 ms: once it speaks, it is older than what is started now.
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_that_got_the_pid_of_ours_is_never_signaled(
    table: ProcessTable, tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    table.start(python(SLEEP))
    pid_file = tmp_path / "run" / "worker.json"
    pid_file.write_text(json.dumps({**json.loads(pid_file.read_text()), "pid": stranger.pid}))

    assert table.find("worker") is None
    table.stop(["worker"])

    assert stranger.poll() is None


def test_stopping_ends_children_in_sessions_of_their_own_and_those_deaf_to_term(
    table: ProcessTable, tmp_path: Path
) -> None:
    child_file = tmp_path / "child"
    code = f"""
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
pathlib.Path({str(child_file)!r}).write_text(str(child.pid))
time.sleep(600)
"""
    table.start(python(code, grace_seconds=0.2))
    wait_for(lambda: child_file.exists() and child_file.read_text())
    child = proc.look_up(int(child_file.read_text()))
    assert child is not None

    table.stop(["worker"])

    assert table.find("worker") is None
    assert not proc.is_running(child)


def test_sweep_ends_what_has_lost_its_parent(table: ProcessTable, tmp_path: Path) -> None:
    # The worker leaves a child in a session of its own and ends.
    table.start(
        python(f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)")
    )
    wait_for(lambda: table.find("worker") is None)
    (orphan,) = proc.with_environment(OWNER_VARIABLE, str(tmp_path))

    table.sweep()

    assert not proc.is_running(orphan)


def test_a_process_that_ends_fails_the_wait_with_the_end_of_its_log(table: ProcessTable) -> None:
    table.start(python("import sys; sys.exit('no such port')"))

    with pytest.raises(
        StageFailed, match=r"worker: the process has ended with exit code 1; log: .*\n  \| no such port"
    ):
        table.wait_until("worker", lambda: False, seconds=10)


def test_a_process_that_ends_before_it_is_looked_at_still_says_how(
    table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = os.posix_spawn

    def ended_at_once(*arguments: Any, **options: Any) -> int:
        pid = spawn(*arguments, **options)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid

    monkeypatch.setattr(os, "posix_spawn", ended_at_once)
    assert table.start(python("import sys; sys.exit(3)"))
    assert table.find("worker") is None

    with pytest.raises(StageFailed, match="the process has ended with exit code 3"):
        table.wait_until("worker", lambda: False, seconds=10)


def test_a_process_that_gets_killed_says_by_what(table: ProcessTable) -> None:
    table.start(python(SLEEP))
    process = table.find("worker")
    assert process is not None
    proc.signal_process(process, signal.SIGKILL)

    with pytest.raises(StageFailed, match="the process was ended by SIGKILL"):
        table.wait_until("worker", lambda: False, seconds=10)


def test_a_wait_has_a_deadline(table: ProcessTable) -> None:
    table.start(python(SLEEP))
    with pytest.raises(StageFailed, match="worker: not ready after 0 s"):
        table.wait_until("worker", lambda: False, seconds=0.05)


def test_a_program_that_is_missing_is_named(table: ProcessTable) -> None:
    with pytest.raises(StageFailed, match="etcd: cannot run /nowhere/etcd: No such file or directory"):
        table.start(ProcessSpec("etcd", ("/nowhere/etcd",)))


def test_a_ready_file_of_an_earlier_run_is_removed(table: ProcessTable, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.touch()
    table.start(python(SLEEP, ready_file=ready))
    assert not ready.exists()


def test_the_log_of_the_run_before_is_kept(table: ProcessTable) -> None:
    for word in ("first", "second"):
        table.start(python(f"print({word!r})"))
        wait_for(lambda: table.find("worker") is None)
    assert table.log("worker").read_text() == "second\n"
    assert table.log("worker").with_suffix(".log.1").read_text() == "first\n"


STAT = "4242 (a ) b (c) S 17 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 20\n"


def test_stat_is_read_past_a_name_with_parentheses() -> None:
    assert proc.parse_stat(STAT) == (proc.Process(pid=4242, parent=17, session=4242, started=987654), True)


def test_a_process_that_waits_to_be_reaped_has_ended() -> None:
    process, lives = proc.parse_stat(STAT.replace(" S ", " Z "))
    assert process.started == 987654
    assert not lives


def test_a_process_that_this_user_may_not_see_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # As /proc is mounted with hidepid=1.
    def hidden(path: Path, **_options: Any) -> str:
        raise PermissionError(str(path))

    monkeypatch.setattr(Path, "read_text", hidden)
    assert proc.look_up(1) is None
    assert list(proc.all_processes()) == []


def test_a_tree_holds_descendants_and_the_session_but_no_others() -> None:
    leader = proc.Process(10, 1, 10, 0)
    grandchild = proc.Process(12, 11, 12, 0)
    child = proc.Process(11, 10, 11, 0)
    adopted = proc.Process(13, 1, 10, 0)
    stranger = proc.Process(14, 1, 14, 0)
    tree = proc.tree_of(leader, [grandchild, stranger, child, adopted, leader])
    assert tree[0] == leader
    assert set(tree) == {leader, child, grandchild, adopted}
