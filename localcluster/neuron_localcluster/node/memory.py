"""Holds containers to their memory limits by what their processes really take (PSS: shared pages counted once)."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neuron_localcluster import proc

_PERIOD_SECONDS = 2.0
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Watched:
    """A container's first process, its limit in bytes, and what to call when the limit is passed."""

    pid: int
    limit: int
    exceeded: Callable[[], None]


class MemoryGuard:
    """Looks at all watched containers every two seconds."""

    def __init__(self) -> None:
        self._watched: dict[int, Watched] = {}

    def watch(self, watched: Watched) -> None:
        self._watched[watched.pid] = watched

    def forget(self, pid: int) -> None:
        self._watched.pop(pid, None)

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            if not self._watched:
                continue
            limits = {pid: watched.limit for pid, watched in self._watched.items()}
            # In a thread: the kernel walks all pages of a process, which takes milliseconds per gigabyte.
            for pid in await asyncio.to_thread(over_limit, limits):
                if watched := self._watched.get(pid):
                    watched.exceeded()


def over_limit(limits: Mapping[int, int]) -> list[int]:
    """The pids whose process trees take more bytes than their limit."""
    processes = list(proc.all_processes())
    leaders = {process.pid: process for process in processes}
    over = []
    for pid, limit in limits.items():
        if pid not in leaders:
            continue
        pids = [process.pid for process in proc.tree_of(leaders[pid], processes)]
        # Resident size is cheap to read and never below PSS.
        if sum(map(resident_bytes, pids)) > limit and sum(map(pss_bytes, pids)) > limit:
            over.append(pid)
    return over


def pss_bytes(pid: int) -> int:
    """Proportional set size of one process, 0 when it has ended."""
    try:
        match = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return int(match[1]) * 1024 if match else 0


def resident_bytes(pid: int) -> int:
    """Resident set size of one process, 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0
