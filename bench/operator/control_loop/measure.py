"""What is measured of one contestant, phase by phase."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import psutil

from control_loop import audit, contestant, objects
from control_loop.audit import Write
from control_loop.contestant import OURS, Contestant, running
from control_loop.fleet import Fleet
from control_loop.plane import Plane, plane
from neuron_localcluster.node.addresses import AddressPool
from neuron_localcluster.nodes import POD_CIDR
from neuron_localcluster.simulator import Delays, simulated_node, simulated_workloads

_SIMULATOR = "neuron-localcluster-node"
_SECONDS_PER_MODEL = 3.0
# Slow enough that a reaction waits for nothing but itself.
_RATE = 5.0
# On a busy machine a program can be long without a turn while it starts.
_LONG_QUIET_SECONDS = 6.0
_AT_ONCE = Delays()
_SETTLING = Delays(start=0.3, load=0.3)


@dataclass(frozen=True)
class Sizes:
    """How many models there are in each phase."""

    burst: int
    hits: int
    trickle: int

    def total(self, *, simulated: bool) -> int:
        return self.burst + self.hits + (self.trickle if simulated else 0)

    @classmethod
    def of(cls, models: int) -> Sizes:
        return cls(burst=models, hits=max(1, models // 5), trickle=max(1, min(100, models // 5)))


@dataclass
class Figures:
    """Of one contestant. Times are in seconds, memory in bytes."""

    models: int
    models_per_second: float = 0.0
    hits_per_second: float = 0.0
    writes_on_miss: dict[str, float] = field(default_factory=dict)
    writes_on_hit: dict[str, float] = field(default_factory=dict)
    writes_apart: dict[str, float] = field(default_factory=dict)
    sequence_on_miss: list[str] = field(default_factory=list)
    sequence_on_hit: list[str] = field(default_factory=list)
    refused: int = 0
    reaction: dict[str, dict[str, float]] = field(default_factory=dict)
    resident_at_start: int = 0
    resident: int = 0
    resident_per_model: float = 0.0
    restart_seconds: float = 0.0
    restart_writes: int = 0
    processor_milliseconds: dict[str, float] = field(default_factory=dict)
    """Per compiled model, of the contestant and of the processes beside it."""

    def to_document(self) -> dict[str, Any]:
        return asdict(self)


async def measure(name: str, models: int, *, simulated: bool, profile: Path | None = None) -> Figures:
    """Run one contestant through all phases, on a control plane of its own.

    With `simulated` there are no controllers but the simulator's; else the real ones, with a simulated node below.
    """
    sizes = Sizes.of(models)
    figures = Figures(models=models)
    with _address() as address:
        async with plane(sizes.burst + sizes.trickle, controllers=not simulated) as given, _fleet(given) as fleet:
            arguments = (name, given.kubeconfig, given.endpoints, given.folder, address)
            async with running(*arguments, profile=profile) as operator:
                await _at_work(name, given, operator, fleet, sizes, figures, simulated=simulated)
            if profile is None:
                async with running(*arguments) as operator:
                    await _restart(name, given, operator, sizes.total(simulated=simulated), figures)
    return figures


async def _at_work(
    name: str,
    given: Plane,
    operator: Contestant,
    fleet: Fleet,
    sizes: Sizes,
    figures: Figures,
    *,
    simulated: bool,
) -> None:
    if name == OURS:
        await operator.leading()
    await operator.quiet(window=_LONG_QUIET_SECONDS)
    figures.resident_at_start = operator.resident
    async with _workloads(given, simulated=simulated):
        # As many artifacts as models: each is compiled.
        misses = [objects.model(f"m{number}", number) for number in range(sizes.burst)]
        marked, used = time.time(), _processors(given, operator)
        figures.models_per_second = await _burst(operator, fleet, misses)
        figures.processor_milliseconds = {
            of: round(1000 * (seconds - used.get(of, 0.0)) / sizes.burst, 1)
            for of, seconds in _processors(given, operator).items()
        }
        writes = _writes(name, given, marked)
        figures.resident = operator.resident
        figures.resident_per_model = (operator.resident - figures.resident_at_start) / sizes.burst
        figures.refused = sum(write.code >= 400 for write in writes)
        figures.writes_on_miss = audit.per_model((write for write in writes if not write.is_apart), sizes.burst)
        figures.writes_apart = audit.per_model((write for write in writes if write.is_apart), sizes.burst)
        figures.sequence_on_miss = _sequence(name, given, marked, f"m{sizes.burst // 2}")
        # The artifacts are there by now.
        hits = [objects.model(f"h{number}", number) for number in range(sizes.hits)]
        marked = time.time()
        figures.hits_per_second = await _burst(operator, fleet, hits)
        writes = [write for write in _writes(name, given, marked) if not write.is_apart]
        figures.writes_on_hit = audit.per_model((write for write in writes if write.model[0] == "h"), sizes.hits)
        figures.sequence_on_hit = _sequence(name, given, marked, f"h{sizes.hits // 2}")
        if not simulated:
            return
    async with _workloads(given, _SETTLING):
        trickle = [objects.model(f"t{number}", number) for number in range(sizes.burst, sizes.burst + sizes.trickle)]
        marked = time.time()
        await fleet.create(trickle, _RATE)
        await fleet.ready(trickle, 300.0)
        await fleet.edit(trickle, {"serving": {"replicas": 2}}, _RATE)
        await fleet.ready(trickle, 300.0)
        await operator.quiet()
    figures.reaction = _reactions(name, given, marked)


@asynccontextmanager
async def _workloads(given: Plane, delays: Delays = _AT_ONCE, *, simulated: bool = True) -> AsyncIterator[None]:
    """What ends Jobs and readies Deployments."""
    kubeconfig = given.cluster.kubeconfig
    if not simulated:
        async with simulated_node(kubeconfig, given.store.end_pod):
            yield
        return
    async with simulated_workloads(
        kubeconfig, job_ends=given.store.end_job, delays=delays, shows_running=False, job_pods=False
    ):
        yield


async def _burst(operator: Contestant, fleet: Fleet, models: Sequence[dict[str, Any]]) -> float:
    """Create models at once and wait until all is quiet; returns how many became ready in a second."""
    began = await fleet.create(models)
    operator.check()
    ready = await fleet.ready(models, 60.0 + _SECONDS_PER_MODEL * len(models))
    await operator.quiet()
    return round(len(models) / (ready - began), 2)


async def _restart(name: str, given: Plane, operator: Contestant, models: int, figures: Figures) -> None:
    """Until every model was looked at again, as its metrics say; of one without metrics, until it takes no time."""
    marked = time.time()
    if name == OURS:
        looked_at = await operator.reconciled(models)
        figures.restart_seconds = round(looked_at - operator.started, 2)
    quiet_since = await operator.quiet(window=_LONG_QUIET_SECONDS)
    if name != OURS:
        figures.restart_seconds = round(quiet_since - operator.started, 2)
    # Events tell of what was written; a lease is renewed all the time.
    figures.restart_writes = sum(not write.is_apart for write in _writes(name, given, marked))


def _writes(name: str, given: Plane, since: float) -> list[Write]:
    return audit.read_writes(given.cluster.audit_log, contestant.USER_AGENTS[name], since)


def _sequence(name: str, given: Plane, since: float, model: str) -> list[str]:
    """All that was written of one model, by whom, and when after its creation, in milliseconds."""
    agents = (*contestant.USER_AGENTS[name], _SIMULATOR)
    found = [write for write in audit.read_writes(given.cluster.audit_log, agents, since) if write.model == model]
    return [
        f"{1000 * (write.received - found[0].received):6.0f} ms  "
        f"{'' if write.agent != _SIMULATOR else '(others) '}{write.verb} {write.resource}"
        for write in found
    ]


def _reactions(name: str, given: Plane, since: float) -> dict[str, dict[str, float]]:
    causes = audit.read_writes(given.cluster.audit_log, (_SIMULATOR,), since)
    answers = [write for write in _writes(name, given, since) if not write.is_apart]
    kinds = {
        "model created": ("create", "neuronmodels"),
        "spec edited": ("patch", "neuronmodels"),
        "Job ended": ("patch", "jobs/status"),
        "Deployment changed": ("patch", "deployments/status"),
    }
    found: dict[str, list[float]] = {
        text: audit.reactions([write for write in causes if (write.verb, write.resource) == kind], answers)
        for text, kind in kinds.items()
    }
    found["all"] = [seconds for of in found.values() for seconds in of]
    return {text: _spread(seconds) for text, seconds in found.items() if len(seconds) > 1}


def _spread(seconds: list[float]) -> dict[str, float]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {
        "count": len(seconds),
        "p50": round(cuts[49], 4),
        "p99": round(cuts[98], 4),
        "max": round(max(seconds), 4),
    }


def _processors(given: Plane, operator: Contestant) -> dict[str, float]:
    """Processor seconds of each process that takes part."""
    found = {
        "operator": operator.processor_seconds,
        "simulator and this program": sum(psutil.Process().cpu_times()[:2]),
    }
    for component in given.cluster.status():
        if component.pid is not None:
            found[component.name] = sum(psutil.Process(component.pid).cpu_times()[:2])
    return found


@asynccontextmanager
async def _fleet(given: Plane) -> AsyncIterator[Fleet]:
    fleet = Fleet(given.api)
    task = asyncio.create_task(fleet.watch())
    try:
        yield fleet
    finally:
        task.cancel()


class _address:
    """An address of loopback for the contestant's endpoints, whose port is fixed."""

    def __enter__(self) -> str:
        self._pool = AddressPool(POD_CIDR)
        self._taken = self._pool.take()
        return self._taken

    def __exit__(self, *_: object) -> None:
        self._pool.give_back(self._taken)
