"""kopf as the doorbell: watches, and nothing else.

Only `on.event` handlers are registered. kopf's other handlers write annotations and finalizers onto objects and lose
what they are told between restarts; with these alone it never writes. A handler hands the object to the snapshot and
rings for the models that it concerns, and cannot fail.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kopf

from neuron_operator.api.objects import Key, Kind, Manifest, key_of

from .no_storage import NoEssence, NoProgress
from .snapshot import Snapshot

Connection = Callable[[], dict[str, Any]]
Affected = Callable[[Manifest], Collection[Key]]

# kopf keeps the credentials of a login until the API server refuses them; projected tokens are renewed hourly.
_LOGIN_LIFETIME = timedelta(minutes=10)
# kopf waits for the tasks that it cancels for as long as they take, and a cancellation can get lost: Python 3.11's
# `wait_for` swallows one that arrives together with the result.
_ENDING = timedelta(seconds=15)
_KOPF = Path(kopf.__file__).parent
_DOMAIN = "neuron-operator.dev"

logger = logging.getLogger(__name__)


class WatchesEnded(Exception):
    """kopf stopped watching. The process ends, so that the kubelet starts it anew."""


class Watches:
    """kopf, running. It can be started once."""

    def __init__(
        self, registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, *, ending: timedelta = _ENDING
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._ending = ending
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._earlier: set[asyncio.Task[Any]] = set()
        self._tasks: Collection[asyncio.Task[None]] = ()

    def are_running(self) -> bool:
        """Whether events can come. False as soon as any part of kopf has ended, long before `run` returns."""
        return self._started.is_set() and not any(task.done() for task in self._tasks)

    async def start(self) -> None:
        """Start watching. kopf takes SIGTERM and SIGINT for itself here: who wants them must come after."""
        asyncio.get_running_loop().set_exception_handler(forget_what_kopf_forgets)
        # When kopf ends by itself, it cancels every task of the process that did not exist before it.
        self._earlier = asyncio.all_tasks()
        self._tasks = await kopf.spawn_tasks(
            registry=self._registry,
            settings=self._settings,
            standalone=True,
            clusterwide=True,
            ready_flag=self._started,
            stop_flag=self._stop,
        )

    async def run(self) -> None:
        """Watch until `stop`. Raises WatchesEnded when kopf ends by itself. Ending takes kopf `ending` at most."""
        us = {task for task in (asyncio.current_task(),) if task is not None}
        watching = asyncio.create_task(kopf.run_tasks(self._tasks, ignored=self._earlier | us), name="kopf")
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            watching.cancel()
            raise
        finally:
            await asyncio.wait({watching}, timeout=self._ending.total_seconds())
            watching.cancel()
        problem = _problem(watching, self._tasks)
        if not self._stop.is_set():
            raise WatchesEnded(f"kopf cannot watch any more: {problem}") from problem
        if problem is not None:
            # kopf closes connections that it has not opened yet when it is stopped while it starts.
            logger.info("kopf did not end well: %r", problem)

    def stop(self) -> None:
        """Have `run` return."""
        self._stop.set()


def _problem(watching: asyncio.Task[None], parts: Collection[asyncio.Task[None]]) -> BaseException | None:
    if watching.done():
        return watching.exception()
    # Why it began to end says more than that it does not get there.
    causes = (part.exception() for part in parts if part.done() and not part.cancelled())
    return next((cause for cause in causes if cause is not None), TimeoutError("it does not end"))


def forget_what_kopf_forgets(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that nobody asked for; one of kopf's own tasks, which it abandons when it ends, is no error."""
    task = context.get("future")
    code = getattr(task.get_coro(), "cr_code", None) if isinstance(task, asyncio.Task) else None
    if code is not None and Path(code.co_filename).is_relative_to(_KOPF):
        logger.info("%s: %r", context["message"], context.get("exception"))
        return
    loop.default_exception_handler(context)


def registry(
    kinds: Sequence[Kind],
    snapshot: Snapshot,
    ring: Callable[[Key], None],
    affected: Affected,
    connection: Connection,
    *,
    login_lifetime: timedelta = _LOGIN_LIFETIME,
) -> kopf.OperatorRegistry:
    """Handlers for the watched kinds.

    `affected` names the models that an object concerns; it is asked about the old form as well as the new, so that an
    object that changes hands wakes both. `connection` gives the arguments of `kopf.ConnectionInfo`.
    """
    handlers = kopf.OperatorRegistry()

    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**connection(), expiration=datetime.now(UTC) + login_lifetime)

    kopf.on.login(registry=handlers, id="login")(login)
    for kind in kinds:
        handler = _handler(kind, snapshot, ring, affected)
        kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers, id=kind.plural)(handler)
    return handlers


def settings(child_kinds: Sequence[Kind], child_selector: str) -> kopf.OperatorSettings:
    """kopf's settings: read only, with finite waits, and children by label."""
    configured = kopf.OperatorSettings()
    configured.posting.enabled = False
    configured.scanning.disabled = True
    configured.networking.request_timeout = 30
    configured.networking.connect_timeout = 10
    configured.watching.connect_timeout = 10
    for kind in child_kinds:
        configured.watching.label_selectors[kind.plural] = child_selector
    # Never used, since no handler of ours needs one; named so that nothing foreign appears if one ever does.
    configured.persistence.finalizer = f"{_DOMAIN}/finalizer"
    configured.persistence.progress_storage = NoProgress()
    configured.persistence.diffbase_storage = NoEssence()
    return configured


def _handler(kind: Kind, snapshot: Snapshot, ring: Callable[[Key], None], affected: Affected) -> Callable[..., Any]:
    async def handle(event: Any, **_: Any) -> None:
        manifest: Manifest = {"apiVersion": kind.api_version, "kind": kind.name, **event["object"]}
        before = snapshot.get(kind, key_of(manifest))
        if not snapshot.observe(event["type"], manifest):
            return
        for key in {*affected(manifest), *(affected(before) if before is not None else ())}:
            ring(key)

    return handle
