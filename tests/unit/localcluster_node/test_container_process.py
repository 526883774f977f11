"""Real processes as containers: exit codes, environment, logs, and that nothing outlives its container."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neuron_localcluster import proc
from neuron_localcluster.node.logs import ContainerLog, LogOptions, render
from neuron_localcluster.node.memory import over_limit
from neuron_localcluster.node.process import (
    CONTAINER_VARIABLE,
    ContainerProcess,
    Launch,
    StartError,
    members,
    program,
    run_beside,
)
from neuron_localcluster.node.substitution import Paths
from support.waiting import wait_for

_WAIT = 60.0


def launch(folder: Path, code: str) -> Launch:
    # The folder's name is unique to the test, so is the mark.
    arguments = (sys.executable, "-c", code)
    return Launch(f"{folder}", sys.executable, arguments, {"PATH": "/usr/bin:/bin", "A": "1"}, folder, Paths({}))


def content(log: ContainerLog) -> str:
    return b"".join(render(log.path.read_bytes().splitlines(keepends=True), LogOptions())).decode()


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
async def test_exit_codes_are_those_of_containers(tmp_path: Path, code: str, exit_code: int) -> None:
    process = await ContainerProcess.start(launch(tmp_path, code), None)
    assert await asyncio.wait_for(process.wait(), _WAIT) == exit_code


async def test_a_process_gets_its_environment_folder_and_log_and_no_more(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "0.log")
    code = "import os, sys; print(sorted(os.environ), os.getcwd()); sys.stderr.write('error\\n')"
    process = await ContainerProcess.start(launch(tmp_path, code), log)
    await asyncio.wait_for(process.wait(), _WAIT)
    # Python adds LC_CTYPE itself where no locale is set.
    allowed = sorted(["A", "LC_CTYPE", CONTAINER_VARIABLE, "PATH"])
    assert sorted(content(log).splitlines()) == sorted([f"{allowed} {tmp_path}", "error"])
    assert log.closed


# One child in the container's session, one that has left it.
CHILDREN = """
import subprocess, time
subprocess.Popen(['sleep', '600'])
subprocess.Popen(['sleep', '600'], start_new_session=True)
print('up', flush=True)
"""


async def test_nothing_that_a_container_started_outlives_it(tmp_path: Path) -> None:
    process = await ContainerProcess.start(launch(tmp_path, CHILDREN), None)
    assert await asyncio.wait_for(process.wait(), _WAIT) == 0
    await _until(lambda: not members(str(tmp_path), process.pid))


async def test_kill_ends_the_whole_container(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "0.log")
    process = await ContainerProcess.start(launch(tmp_path, CHILDREN + "time.sleep(600)"), log)
    await _until(lambda: "up" in content(log))
    await _until(lambda: len(members(str(tmp_path), process.pid)) == 3)
    process.kill()
    assert await asyncio.wait_for(process.wait(), _WAIT) == 137
    await _until(lambda: not members(str(tmp_path), process.pid))


async def test_a_command_beside_a_container_leaves_the_container_alone(tmp_path: Path) -> None:
    main = launch(tmp_path, "import time; time.sleep(600)")
    process = await ContainerProcess.start(main, None)
    try:
        assert await run_beside(main, ["sh", "-c", 'test "$A" = 1']) == 0
        assert await run_beside(main, ["sh", "-c", "exit 4"]) == 4
        slow = asyncio.create_task(run_beside(main, ["sh", "-c", "echo $$ > pid; exec sleep 100"]))
        pid = tmp_path / "pid"
        await _until(lambda: pid.exists() and pid.read_text() != "")
        beside = proc.look_up(int(pid.read_text()))
        assert beside is not None
        assert await run_beside(main, ["true"]) == 0
        assert proc.is_running(beside)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        await _until(lambda: not proc.is_running(beside))
        assert proc.look_up(process.pid) is not None
    finally:
        process.kill()
        await process.wait()


def test_a_container_dies_with_an_agent_that_is_killed(tmp_path: Path) -> None:
    agent = f"""
import asyncio, pathlib, sys
from neuron_localcluster.node.process import ContainerProcess, Launch
from neuron_localcluster.node.substitution import Paths
async def main():
    folder = pathlib.Path({str(tmp_path)!r})
    launch = Launch("x", "/bin/sleep", ("sleep", "600"), {{"PATH": "/bin"}}, folder, Paths({{}}))
    process = await ContainerProcess.start(launch, None)
    print(process.pid, flush=True)
    await process.wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", agent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        sleeping = Path(f"/proc/{pid}/comm")
        wait_for("the container's program", lambda: sleeping.read_text() == "sleep\n" or None, seconds=_WAIT)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for("the container's end", lambda: proc.look_up(pid) is None or None, seconds=_WAIT)


def test_a_program_is_found_on_the_path_of_the_container(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert program("tool", str(tmp_path), tmp_path) == str(tool)
    assert program("./tool", "", tmp_path) == str(tmp_path / "tool")
    with pytest.raises(StartError, match=r'exec: "none": executable file not found in \$PATH'):
        program("none", str(tmp_path), tmp_path)
    with pytest.raises(StartError, match=r"the working directory .* does not exist"):
        program("tool", str(tmp_path), tmp_path / "none")


def test_memory_of_a_process_tree_is_held_against_its_limit() -> None:
    child = "taken = b'x' * 2**26; print(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert over_limit({parent.pid: 2**26}) == [parent.pid]
        assert over_limit({parent.pid: 2**29}) == []
        parent.communicate(b"\n")
    assert over_limit({parent.pid: 1}) == []


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WAIT):
        while not condition():  # noqa: ASYNC110 - what /proc shows can only be looked at
            await asyncio.sleep(0.01)
