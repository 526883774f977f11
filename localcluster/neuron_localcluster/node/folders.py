"""A pod's folder on this machine: where its volumes, containers, logs and records lie, and how files get there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from neuron_localcluster import proc
from neuron_localcluster.files import write_whole
from neuron_localcluster.node.state import ContainerState, from_status, to_status
from neuron_localcluster.node.volumes import File


@dataclass(frozen=True)
class ProcessIdentity:
    """A process beyond doubt: boot, pid and start time."""

    boot: str
    pid: int
    started: int


@dataclass(frozen=True)
class Record:
    """What is kept of a container, so that the next agent can go on: its state, and its process while it ran."""

    state: ContainerState
    process: ProcessIdentity | None


class ContainerFolder:
    """One container's own part of the file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path / "home"
        self.temporary = path / "tmp"
        self.termination_message = path / "termination-log"
        self._record = path / "record.json"

    def prepare(self) -> None:
        """Make the folders of a run; the termination message of the run before goes."""
        for folder in (self.home, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        self.termination_message.write_bytes(b"")

    def log(self, run: int) -> Path:
        """The log of a run, counted from 0."""
        return self.path / "logs" / f"{run}.log"

    def drop_log(self, run: int) -> None:
        self.log(run).unlink(missing_ok=True)

    def keep(self, record: Record) -> None:
        content = {"status": to_status(record.state), "process": record.process and asdict(record.process)}
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self._record, json.dumps(content).encode(), 0o600)

    def kept(self) -> Record | None:
        """What an agent kept of this container, None when it never ran."""
        try:
            content = json.loads(self._record.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        process = content["process"]
        return Record(from_status(content["status"]), ProcessIdentity(**process) if process else None)


class PodFolder:
    """One pod's part of the state folder."""

    def __init__(self, state_dir: Path, uid: str) -> None:
        self.path = state_dir / "pods" / uid
        self.volumes = self.path / "volumes"
        self.credentials_token = self.path / "aws-token"
        self.kubeconfig = self.path / "kubeconfig"

    def container(self, name: str) -> ContainerFolder:
        return ContainerFolder(self.path / "containers" / name)

    def write_volume(self, name: str, files: Mapping[str, File] | None) -> None:
        """Make the volume hold exactly these files; None leaves its content to the pod."""
        root = self.volumes / name
        root.mkdir(parents=True, exist_ok=True)
        if files is None:
            return
        for path, file in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            _write(root / path, file.content, file.mode)
        for path_on_disk in [path for path in root.rglob("*") if path.is_file()]:
            if str(path_on_disk.relative_to(root)) not in files:
                path_on_disk.unlink()

    def write_private(self, path: Path, text: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        _write(path, text.encode(), 0o600)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def pods_with_folders(state_dir: Path) -> list[str]:
    """UIDs of the pods that an earlier agent has left something of."""
    pods = state_dir / "pods"
    return [path.name for path in pods.iterdir()] if pods.is_dir() else []


def container_folders(state_dir: Path) -> list[ContainerFolder]:
    return [ContainerFolder(path) for path in (state_dir / "pods").glob("*/containers/*")]


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process."""
    process = proc.look_up(pid)
    return ProcessIdentity(proc.boot_id(), pid, process.started) if process else None


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        if path.read_bytes() == content and path.stat().st_mode & 0o777 == mode:
            return
    except (FileNotFoundError, PermissionError):
        pass
    write_whole(path, content, mode)
