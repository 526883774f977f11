"""Reconciles one NeuronModel: picture, phases, status.

Level-triggered: nothing here knows which event woke it. What it does depends on what is there alone, so doing it twice
does nothing twice.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from pydantic import ValidationError

from neuron_operator.api.conditions import ConditionType, Reason
from neuron_operator.api.objects import NEURON_MODEL, Key, Manifest, is_deleting, key_of, uid_of
from neuron_operator.api.status import Phase as PhaseWord
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.errors import Conflict, NamespaceEnding, Rejected, Transient
from neuron_operator.loop.controller import Done, Outcome, Requeue
from neuron_operator.loop.snapshot import Snapshot
from neuron_operator.settings import PlatformSettings

from .children import Children, Cluster, Foreign, Leftover
from .observe import observe
from .phases import PHASES, Phase
from .phases.serve import recorded_artifact
from .scope import Scope
from .status import project, project_unreadable, without_details
from .steps import Continue, Fail, Step, Wait, as_cause
from .tools import Artifacts, Hub, ProgressReader, Tools

_REFUSED_PAUSE_SECONDS = 60.0
_REFUSED_REMEDY = (
    "Change the quota, policy or role that it names, or the field of the spec; it is tried again each minute"
)
_LEFTOVER_PAUSE_SECONDS = 5.0
_INVALID = 422

logger = logging.getLogger(__name__)


class Events(Protocol):
    """Where Kubernetes events are recorded; `kube.events` fills it in."""

    async def record(self, regarding: Manifest, type: str, reason: str, note: str) -> None:
        """Record an event. Never raises."""


class Reconciler:
    """Brings what is in the cluster to what NeuronModels ask for."""

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        gateway: Cluster,
        artifacts: Artifacts,
        hub: Hub,
        progress: ProgressReader,
        events: Events,
        settings: PlatformSettings,
        clock: Callable[[], datetime],
    ) -> None:
        self._snapshot = snapshot
        self._cluster = gateway
        self._events = events
        self._clock = clock
        self._tools = Tools(
            children=Children(gateway, snapshot),
            snapshot=snapshot,
            artifacts=artifacts,
            hub=hub,
            progress=progress,
            settings=settings,
            clock=clock,
        )

    async def __call__(self, key: Key) -> Outcome:
        """Reconcile the model of this name, if there is one."""
        manifest = self._snapshot.get(NEURON_MODEL, key)
        if manifest is None:
            self._tools.forget(key)
        if manifest is None or is_deleting(manifest):
            return Done()  # owner references delete the children
        try:
            model = NeuronModel.parse(manifest)
        except ValidationError as error:
            await self._write(manifest, project_unreadable(manifest, _first_error(error), self._clock()))
            return Done()
        scope = self._scope(model)
        try:
            phase, step, unreachable = await self._run(scope)
        except NamespaceEnding:
            self._tools.memory(model).refused = True  # others are not to wait for its compile
            return Done()
        # The picture again, now with what was written: the status must not lag behind our own writes.
        scope.observed = observe(model, self._snapshot)
        await self._write(manifest, project(scope, step, phase.condition, phase.word, self._clock()))
        if unreachable is not None:
            raise unreachable  # the queue's back-off counts how often
        if isinstance(step, Wait | Fail) and step.after is not None:
            return Requeue(step.after)
        wake_at = self._tools.memory(model).wake_at
        if isinstance(step, Continue) and wake_at is not None:
            return Requeue(max(0.0, (wake_at - self._clock()).total_seconds()))
        return Done()

    def _scope(self, model: NeuronModel) -> Scope:
        observed = observe(model, self._snapshot)
        revision = observed.revisions.get(observed.target)
        return Scope(
            model=model,
            observed=observed,
            revision=revision,
            artifact=recorded_artifact(revision, observed.deployments.get(observed.target)),
        )

    async def _run(self, scope: Scope) -> tuple[Phase, Step, Transient | None]:
        """How far the phases came, and the API server's trouble if that is what stopped them."""
        unreachable = None
        for phase in PHASES:
            try:
                step = await phase.run(scope, self._tools)
            except Leftover as error:
                step = Wait(Reason.CONFLICT, f"{error}", after=_LEFTOVER_PAUSE_SECONDS)
            except Foreign as error:
                self._tools.memory(scope.model).refused = True
                step = Fail(Reason.CONFLICT, f"{error}", error.remedy, after=_REFUSED_PAUSE_SECONDS)
            except Rejected as error:
                self._tools.memory(scope.model).refused = True
                step = Fail(Reason.API_SERVER_REFUSED, f"{error}", _REFUSED_REMEDY, after=_REFUSED_PAUSE_SECONDS)
            except Transient as error:
                unreachable = error
                step = Wait(Reason.API_SERVER_UNREACHABLE, f"{as_cause(str(error))}. It is tried again")
            if not isinstance(step, Continue):
                return phase, step, unreachable
        return PHASES[-1], Continue(), None

    async def _write(self, manifest: Manifest, status: dict[str, Any]) -> None:
        """Write the status if it changed, and tell of a new reason for (not) being ready as an event."""
        before = manifest.get("status") or {}
        if status == before:
            return
        try:
            await self._replace(manifest, status)
        except Rejected as error:
            if error.status != _INVALID:
                raise
            logger.error("the status is refused, and written without its details: %s", error)  # noqa: TRY400 - expected
            status = without_details(status, f"{error}")
            if status == before:
                return
            await self._replace(manifest, status)
        old, new = _ready(before), _ready(status)
        if old.get("reason") != new["reason"]:
            kind = "Warning" if status["phase"] in (PhaseWord.FAILED, PhaseWord.DEGRADED) else "Normal"
            await self._events.record(manifest, kind, new["reason"], new["message"])
            logger.info("%s: %s", new["reason"], new["message"])

    async def _replace(self, manifest: Manifest, status: dict[str, Any]) -> None:
        body = {key: manifest[key] for key in ("apiVersion", "kind")} | {
            "metadata": {key: manifest["metadata"][key] for key in ("name", "namespace", "resourceVersion", "uid")},
            "status": status,
        }
        try:
            self._snapshot.remember(await self._cluster.replace_status(body))
        except Conflict:
            await self._look_again(manifest)
            raise

    async def _look_again(self, manifest: Manifest) -> None:
        """Read a model that is not what it was taken for: the event that tells so may have been lost.

        Until the next relist the operator would make children for one that is gone.
        """
        key = key_of(manifest)
        live = await self._cluster.get(NEURON_MODEL, key)
        if live is None:
            self._snapshot.forget(NEURON_MODEL, key, uid_of(manifest))
        else:
            self._snapshot.remember(live)


def _ready(status: dict[str, Any]) -> dict[str, Any]:
    conditions = status.get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == ConditionType.READY), {})


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
