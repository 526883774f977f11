"""Ends what an earlier agent has left running: pods are never doubled."""

from __future__ import annotations

import logging
from pathlib import Path

from neuron_localcluster import proc
from neuron_localcluster.node.folders import container_folders
from neuron_localcluster.node.process import kill_processes, members

_log = logging.getLogger(__name__)


def end_stale_containers(state_dir: Path) -> int:
    """Kill every process of containers that an agent before this one has started; answers how many there were."""
    count = 0
    for folder in container_folders(state_dir):
        record = folder.kept()
        if record is None or record.process is None or record.process.boot != proc.boot_id():
            continue
        leader = proc.look_up(record.process.pid)
        # A session's number is not given away while the session lives, so only its leader can be another process.
        reused = leader is not None and leader.started != record.process.started
        container_id = record.state.container_id.removeprefix("process://")
        left = members(container_id, -1 if reused else record.process.pid)
        kill_processes(left)
        count += len(left)
    if count:
        _log.info("ended %d processes of an earlier agent", count)
    return count
