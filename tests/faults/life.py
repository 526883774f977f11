"""One life: a namespace, operators behind proxies that fail, and what is asked of them in the end."""

from __future__ import annotations

import asyncio
import difflib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from faults.api_proxy import ApiProxy, Crash, Write
from faults.bed import BUCKET, NEURON_MODELS, Bed
from faults.final_state import final_state, orphans
from faults.replica import Replica, replica_running
from faults.s3_proxy import s3_proxy
from faults.schedule import Schedule
from neuron_localcluster.node.api import MERGE_PATCH, APIError
from neuron_localcluster.simulator import Resource
from neuron_localcluster.simulator.resource import DEPLOYMENTS, JOBS, SERVICES
from neuron_operator.model.resources import names
from support.models import SETTINGS
from support.object_store import CREDENTIALS

Manifest = dict[str, Any]

LEASES = Resource("coordination.k8s.io/v1", "Lease", "leases")
LEASE = "neuron-operator"

_DEADLINE_SECONDS = 120.0
_SETTLING_SECONDS = 30.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Outcome:
    """What a life led to."""

    state: dict[str, Any]
    jobs: dict[str, int]
    """Jobs that were ever created, by artifact."""
    writes: int


@dataclass
class Life:
    """What the script of a life works with: it is the user, and decides what becomes of compiles."""

    bed: Bed
    namespace: str
    schedules: list[Schedule]
    proxy: ApiProxy
    replicas: list[Replica] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    unguarded_until: float = 0.0
    """Until then two replicas may lead: who starts when somebody has deleted the lease cannot know of its holder."""

    async def create(self, name: str = "llama", **spec: Any) -> None:
        """Create a model, with `spec` over the smallest useful one."""
        manifest = {
            "apiVersion": NEURON_MODELS.api_version,
            "kind": NEURON_MODELS.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "model": {"huggingFace": {"repo": "org/llama"}},
                "artifactStore": {"s3": {"bucket": BUCKET}},
                **spec,
            },
        }
        await self.bed.api.post(NEURON_MODELS.path(self.namespace), manifest)

    async def edit(self, name: str = "llama", **spec: Any) -> None:
        """Edit a model's spec."""
        await self.bed.api.patch(NEURON_MODELS.path(self.namespace, name), {"spec": spec}, MERGE_PATCH)

    async def delete(self, name: str = "llama") -> None:
        """Delete a model."""
        options = {"propagationPolicy": "Background"}
        await self.bed.api.delete(NEURON_MODELS.path(self.namespace, name), options)

    async def wipe_status(self, name: str = "llama") -> None:
        """Take a model's status away."""
        path = NEURON_MODELS.path(self.namespace, name, "status")
        await self.bed.api.patch(path, {"status": None}, MERGE_PATCH)

    async def model(self, name: str = "llama") -> Manifest | None:
        return await self.bed.api.find(NEURON_MODELS.path(self.namespace, name))

    async def all(self, resource: Any) -> list[Manifest]:
        items, _ = await self.bed.api.list(resource.path(self.namespace))
        return items

    async def jobs(self) -> list[Manifest]:
        return await self.all(JOBS)

    async def until(self, what: str, look: Callable[[], Awaitable[bool]]) -> None:
        """Wait for what the operators are to bring about."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not await look():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {_DEADLINE_SECONDS:.0f} s\n{await self.describe()}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def until_phase(self, phase: str, name: str = "llama") -> None:
        """Wait until the status says so of the present spec."""

        async def look() -> bool:
            model = await self.model(name)
            status = (model or {}).get("status") or {}
            seen = status.get("observedGeneration") == (model or {})["metadata"]["generation"]
            return seen and status.get("phase") == phase

        await self.until(f"{name} is {phase}", look)

    async def until_jobs(self, count: int) -> None:
        """Wait until there are so many Jobs."""

        async def look() -> bool:
            return len(await self.jobs()) == count

        await self.until(f"{count} Jobs", look)

    async def until_gone(self) -> None:
        """Wait until there is nothing left of any model."""

        async def look() -> bool:
            return not await final_state(self.bed, self.namespace)

        await self.until("all gone", look)

    @property
    def injected(self) -> list[str]:
        """What went wrong on purpose."""
        return [entry for schedule in self.schedules for entry in schedule.log]

    async def describe(self) -> str:
        """How things stand."""
        state = await final_state(self.bed, self.namespace)
        lines = [
            f"seed {max(schedule.seed for schedule in self.schedules)}, namespace {self.namespace}",
            "injected: " + "; ".join(self.injected),
            "writes: " + "; ".join(map(str, self.proxy.writes[-40:])),
            f"exit codes: {[replica.exit_codes for replica in self.replicas]}",
            "statuses: " + json.dumps({k: v.get("status") for k, v in state.items() if k.startswith("NeuronModel")}),
            f"objects: {sorted(state)}",
        ]
        logs = [f"--- {replica.log}\n{_tail(replica.log)}" for replica in self.replicas]
        return "\n".join(lines + logs)

    async def before_write(self, write: Write) -> None:
        """Look at each write before it takes effect.

        `Ready` must not be true while nothing serves, and who writes must not have been followed by another leader.
        """
        is_guarded = len(self.replicas) > 1 and time.monotonic() > self.unguarded_until
        lease = await self.bed.api.find(LEASES.path(self.namespace, LEASE)) if is_guarded else None
        holder = ((lease or {}).get("spec") or {}).get("holderIdentity")
        if holder != write.by and holder in {replica.name for replica in self.replicas}:
            self.violations.append(f"{write.by} wrote while {holder} led: {write.verb} {write.resource}")
        if write.resource != "neuronmodels/status":
            return
        conditions = (write.body.get("status") or {}).get("conditions") or []
        ready = next((item for item in conditions if item["type"] == "Ready"), {})
        if ready.get("status") != "True" or ready.get("reason") == "ScaledToZero":
            return
        service = await self.bed.api.find(SERVICES.path(self.namespace, write.name))
        selected = (service or {}).get("spec", {}).get("selector", {}).get(names.REVISION_LABEL, "")
        deployment = await self.bed.api.find(DEPLOYMENTS.path(self.namespace, f"{write.name}-{selected}"))
        if ((deployment or {}).get("status") or {}).get("readyReplicas", 0) < 1:
            self.violations.append(f"Ready=True was written of {write.name} while nothing serves")

    async def outcome(self, expected: Outcome | None) -> Outcome:
        """Have the faults end and the system come to rest; returns what it came to, which must be what is expected."""
        for schedule in self.schedules:
            schedule.end()
        for replica in self.replicas:
            if replica.door is not None:
                replica.door.passable.set()
        deadline = time.monotonic() + _SETTLING_SECONDS
        while True:
            await self._rest()
            outcome = await self._look()
            if expected is None or outcome.state == expected.state or time.monotonic() > deadline:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        problems = list(self.violations)
        problems += [f"orphan: {name}" for name in await orphans(self.bed, self.namespace)]
        if expected is not None and outcome.state != expected.state:
            problems.append(difference(expected.state, outcome.state))
        if expected is not None and outcome.jobs != expected.jobs:
            problems.append(f"Jobs created by artifact: {outcome.jobs}, undisturbed {expected.jobs}")
        if problems:
            raise AssertionError("\n".join([*problems, await self.describe()]))
        return outcome

    async def _rest(self) -> None:
        """Wait until a leader has compared all with the API server twice, and written nothing meanwhile."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while True:
            writes, lists = len(self.proxy.writes), self.proxy.lists["serviceaccounts"]
            while self.proxy.lists["serviceaccounts"] < lists + 2 and len(self.proxy.writes) == writes:
                if time.monotonic() > deadline:
                    raise AssertionError(f"no rest\n{await self.describe()}")
                await asyncio.sleep(_LOOK_SECONDS)
            if len(self.proxy.writes) == writes:
                return

    async def _look(self) -> Outcome:
        created: Counter[str] = Counter()
        for write in self.proxy.effective:
            if (write.verb, write.resource) == ("create", "jobs"):
                labels = write.body["metadata"]["labels"]
                created[labels.get(names.ARTIFACT_LABEL) or labels[names.INSPECTION_LABEL]] += 1
        return Outcome(await final_state(self.bed, self.namespace), dict(created), len(self.proxy.effective))


@asynccontextmanager
async def living(
    bed: Bed,
    schedule: Schedule,
    *,
    replicas: int = 1,
    crash: Crash | None = None,
    store_schedule: Schedule | None = None,
) -> AsyncIterator[Life]:
    """A namespace with operators at work in it."""
    namespace = await bed.new_namespace()
    folder = bed.folder / namespace
    folder.mkdir()
    settings = folder / "settings.yaml"
    settings.write_text(
        yaml.safe_dump(
            SETTINGS.model_copy(
                update={
                    "hugging_face": SETTINGS.hugging_face.model_copy(update={"endpoint": bed.hub.endpoint}),
                    "workers": 4,
                }
            ).model_dump(mode="json", by_alias=True)
        )
    )
    async with AsyncExitStack() as stack:
        store = bed.s3_endpoint
        if store_schedule is not None:
            store = (await stack.enter_async_context(s3_proxy(bed.s3_endpoint, bed.session, store_schedule))).endpoint
        environment = {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL_S3": store,
            "NEURON_OPERATOR_SETTINGS": str(settings),
            "POD_NAMESPACE": namespace,
        }
        life = Life.__new__(Life)

        async def before_write(write: Write) -> None:
            await life.before_write(write)

        proxy = ApiProxy(bed.access, bed.session, namespace, schedule, before_write=before_write, crash=crash)
        schedules = [schedule] if store_schedule is None else [schedule, store_schedule]
        life.__init__(bed, namespace, schedules, proxy)  # type: ignore[misc]
        for number in range(replicas):
            replica = Replica(f"operator-{number}", proxy, bed.zygote, folder, environment, short_lease=replicas > 1)
            life.replicas.append(await stack.enter_async_context(replica_running(replica)))
        try:
            yield life
        finally:
            bed.compiles.pop(namespace, None)
            await _clear(bed, namespace)


async def _clear(bed: Bed, namespace: str) -> None:
    for model in (await bed.api.list(NEURON_MODELS.path(namespace)))[0]:
        try:
            await bed.api.delete(NEURON_MODELS.path(namespace, model["metadata"]["name"]), {})
        except APIError as error:
            if error.status != 404:
                raise


def _tail(log: Path) -> str:
    lines = log.read_text().splitlines() if log.exists() else []
    return "\n".join(line[:600] for line in lines[-25:])


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """What is not as in an undisturbed life, line by line."""
    texts = [json.dumps(value, sort_keys=True, indent=1).splitlines() for value in (expected, found)]
    return "\n".join(difflib.unified_diff(*texts, "undisturbed", "disturbed", n=2, lineterm=""))
