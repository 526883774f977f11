"""A cluster as its callers see it: `up`, `down`, `status`, and where it answers.

All that it keeps lies in its state folder, so that a later process can go on where this one stopped.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neuron_localcluster import components, controlplane, identities, ports, record
from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.certificates import ensure_certificates
from neuron_localcluster.components import Component
from neuron_localcluster.controlplane import ControlPlane
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.nodes import DEFAULT_NODES, NodeShape
from neuron_localcluster.processes import ProcessTable
from neuron_localcluster.progress import Progress, StageClock, silent
from neuron_localcluster.record import ClusterRecord, Image

_PORTS = (*ControlPlane.PORTS, components.HUB, components.AWS)

# Pods end first, while the API server still takes their last status; etcd ends when nobody writes any more.
_STOP_ORDER = (
    (components.NODE_AGENT,),
    (controlplane.CONTROLLER_MANAGER, controlplane.SCHEDULER, components.HUB, components.AWS),
    (controlplane.API_SERVER,),
    (controlplane.ETCD,),
)
COMPONENTS = tuple(name for group in _STOP_ORDER for name in group)


@dataclass(frozen=True)
class ComponentStatus:
    """One process of the cluster; `pid` is None unless it runs."""

    name: str
    pid: int | None
    address: str
    log: Path


class Cluster:
    """A cluster in a state folder. What is not given is as the folder remembers it, or as the defaults say."""

    def __init__(
        self,
        state_dir: Path,
        *,
        images: Mapping[str, Image] | None = None,
        nodes: Sequence[NodeShape] | None = None,
        hub_root: Path | None = None,
        controllers: bool = True,
    ) -> None:
        """Without `controllers` there is no kube-controller-manager and no scheduler: nothing becomes of objects."""
        self.state_dir = state_dir.absolute()
        self._images = images
        self._nodes = nodes
        self._hub_root = hub_root
        self._controllers = controllers
        self._processes = ProcessTable(str(self.state_dir), self.state_dir / "run", self.state_dir / "logs")

    def up(self, progress: Progress = silent) -> None:
        """Start what does not run yet and wait until all of it is ready.

        Raises ClusterError; what had started by then is left running for a look, `down` ends it.
        """
        binaries = ensure_binaries(progress)
        with self._locked():
            kept = self._refresh_record()
            plane = ControlPlane(
                binaries=binaries,
                folder=self.state_dir,
                ports=dict(kept.ports),
                certificates=ensure_certificates(self.state_dir / "pki", controlplane.SERVER_ADDRESSES),
                tokens=identities.ensure_tokens(self.state_dir / "tokens.csv"),
            )
            plane.write_files()
            storage = [
                Component(plane.etcd(), plane.etcd_is_ready),
                Component(plane.api_server(), plane.api_server_is_ready),
            ]
            standins = [components.hub(kept), components.aws(self.state_dir, kept)]
            clocks = self._start([*storage, *standins], progress)
            self._wait(storage, clocks)
            clients = []
            if self._controllers:
                clients += [
                    Component(plane.controller_manager(), plane.controller_manager_is_ready),
                    Component(plane.scheduler(), plane.scheduler_is_ready),
                ]
            if kept.nodes:
                clients.append(components.node_agent(self.state_dir, kept, plane.kubeconfig(identities.NODE_AGENT)))
            clocks |= self._start(clients, progress)
            self._wait([*clients, *standins], clocks)

    def down(self, *, purge: bool = False, progress: Progress = silent) -> None:
        """End all processes and what they have started; the data stays, unless `purge` says otherwise."""
        if not self._record_file.exists():
            return
        with self._locked():
            for group in _STOP_ORDER:
                clock = StageClock(f"stopping {', '.join(group)}", progress)
                if any(self._processes.find(name) for name in group):
                    self._processes.stop(group)
                    clock.finish()
            self._processes.sweep()
            if purge:
                shutil.rmtree(self.state_dir)

    def status(self) -> list[ComponentStatus]:
        """Every process of the cluster, running or not."""
        kept = record.load(self._record_file) or ClusterRecord()
        return [self._status_of(name, kept) for name in reversed(COMPONENTS)]

    def is_changing(self) -> bool:
        """Whether an `up` or `down` is at work."""
        try:
            with (self.state_dir / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def log(self, component: str) -> Path:
        """The log of one of COMPONENTS."""
        return self._processes.log(component)

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of an administrator (group system:masters)."""
        return self.state_dir / f"{identities.ADMIN.name}.kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON event per line: every write, and every read that is not the cluster's own."""
        return self.state_dir / "audit" / "audit.log"

    @property
    def aws_endpoint(self) -> str:
        """Where S3 and CloudWatch answer."""
        return self._endpoint(components.AWS)

    @property
    def hub_endpoint(self) -> str:
        """Where the Hugging Face hub's stand-in answers."""
        return self._endpoint(components.HUB)

    @property
    def hub_root(self) -> Path:
        """The folder whose models the hub's stand-in serves."""
        return Path(self._known_record().hub_root)

    @property
    def _record_file(self) -> Path:
        return self.state_dir / "cluster.json"

    def _endpoint(self, name: str) -> str:
        return f"http://127.0.0.1:{self._known_record().ports[name]}"

    def _known_record(self) -> ClusterRecord:
        kept = record.load(self._record_file)
        if kept is None:
            raise ClusterError(f"no cluster in {self.state_dir}; bring it up first")
        return kept

    def _refresh_record(self) -> ClusterRecord:
        kept = record.load(self._record_file)
        nodes = DEFAULT_NODES if self._nodes is None and kept is None else self._nodes
        known = kept or ClusterRecord(hub_root=str(self.state_dir / "hub"))
        fresh = ClusterRecord(
            ports=ports.assign(_PORTS, known.ports, self._running_ports()),
            nodes=known.nodes if nodes is None else tuple(node.to_json() for node in nodes),
            images=known.images if self._images is None else self._images,
            hub_root=known.hub_root if self._hub_root is None else str(self._hub_root.absolute()),
        )
        fresh.save(self._record_file)
        return fresh

    def _running_ports(self) -> set[str]:
        running = {name for name in COMPONENTS if self._processes.find(name)}
        return running | {
            name for name in _PORTS if name.startswith(f"{controlplane.ETCD}-") and controlplane.ETCD in running
        }

    def _start(self, started: Iterable[Component], progress: Progress) -> dict[str, StageClock]:
        clocks = {}
        for component in started:
            clocks[component.spec.name] = StageClock(component.spec.name, progress)
            self._processes.start(component.spec)
        return clocks

    def _wait(self, started: Iterable[Component], clocks: Mapping[str, StageClock]) -> None:
        for component in started:
            name = component.spec.name
            clocks[name].update("starting")
            self._processes.wait_until(name, component.is_ready, component.deadline)
            clocks[name].finish("ready")

    def _status_of(self, name: str, kept: ClusterRecord) -> ComponentStatus:
        process = self._processes.find(name)
        port = kept.ports.get(name)
        scheme = "http" if name in (controlplane.ETCD, components.HUB, components.AWS) else "https"
        address = f"{scheme}://127.0.0.1:{port}" if port else ""
        return ComponentStatus(name, process.pid if process else None, address, self.log(name))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # `up` and `down` at the same time would start what the other has just stopped.
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with (self.state_dir / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ClusterError(f"another `up` or `down` is at work on {self.state_dir}; wait for it") from error
            yield
