"""Processes as /proc shows them. A process is its pid and its start time: a pid alone may have been reused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_DEAD_STATES = frozenset("ZX")


@dataclass(frozen=True)
class Process:
    """`started` is in clock ticks since boot, as the kernel gives it."""

    pid: int
    parent: int
    session: int
    started: int


def parse_stat(text: str) -> tuple[Process, bool]:
    """A process from the text of /proc/PID/stat, and whether it lives: one that has ended may wait to be reaped."""
    # The program's name stands in parentheses and may itself hold spaces and parentheses.
    pid = int(text[: text.index(" ")])
    fields = text[text.rindex(")") + 2 :].split()
    process = Process(pid=pid, parent=int(fields[1]), session=int(fields[3]), started=int(fields[19]))
    return process, fields[0] not in _DEAD_STATES


def look_up(pid: int) -> Process | None:
    """The living process of that pid, None when there is none that this user may see."""
    found = _read(pid)
    return found[0] if found and found[1] else None


def look_up_child(pid: int) -> Process | None:
    """A child of this process, also one that has ended already; None once it has been reaped."""
    found = _read(pid)
    return found[0] if found else None


def all_processes() -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (process := look_up(int(entry.name))):
            yield process


def is_running(process: Process) -> bool:
    """Whether this very process lives, not another that got its pid."""
    now = look_up(process.pid)
    return now is not None and now.started == process.started


def signal_process(process: Process, number: int) -> None:
    """Send a signal to this very process; one that has ended is no error."""
    if not is_running(process):
        return
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return


def tree_of(leader: Process, processes: list[Process]) -> list[Process]:
    """The leader, everything of its session and all descendants, the leader first."""
    members = {leader.pid}
    grown = True
    while grown:
        found = {p.pid for p in processes if p.parent in members or p.session == leader.pid}
        grown = not found <= members
        members |= found
    return [leader, *(p for p in processes if p.pid in members and p.pid != leader.pid)]


def with_environment(name: str, value: str) -> list[Process]:
    """Living processes of this user whose initial environment holds `name=value`."""
    wanted = os.fsencode(f"{name}={value}")
    found = []
    for process in all_processes():
        try:
            environment = (_PROC / str(process.pid) / "environ").read_bytes()
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue
        if wanted in environment.split(b"\0"):
            found.append(process)
    return found


def _read(pid: int) -> tuple[Process, bool] | None:
    try:
        return parse_stat((_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
