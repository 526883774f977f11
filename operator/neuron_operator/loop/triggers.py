"""kopf as the doorbell: watches, and nothing else.

Only `on.event` handlers are registered. kopf's other handlers write annotations and finalizers onto objects and lose
what they are told between restarts; with these alone it never writes. A handler hands the object to the snapshot and
rings for the models that it concerns, and cannot fail.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

from neuron_operator.api.objects import Key, Kind, Manifest, key_of

from .snapshot import Snapshot

# kopf keeps the credentials of a login until the API server refuses them; projected tokens are renewed hourly.
Connection = Callable[[], dict[str, Any]]

_LOGIN_LIFETIME = timedelta(minutes=10)
_DOMAIN = "neuron-operator.dev"


def registry(
    kinds: Sequence[Kind],
    snapshot: Snapshot,
    ring: Callable[[Key], None],
    affected: Callable[[Manifest], set[Key]],
    connection: Connection,
) -> kopf.OperatorRegistry:
    """Handlers for the watched kinds.

    `affected` names the models that an object concerns; it is asked about the old form as well as the new, so that an
    object that changes hands wakes both. `connection` gives the arguments of `kopf.ConnectionInfo`.
    """
    handlers = kopf.OperatorRegistry()

    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**connection(), expiration=datetime.now(UTC) + _LOGIN_LIFETIME)

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
    # Never used, since no handler of ours stores anything; named so that nothing foreign appears if one ever does.
    configured.persistence.finalizer = f"{_DOMAIN}/finalizer"
    configured.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=_DOMAIN)
    configured.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=_DOMAIN)
    return configured


def _handler(
    kind: Kind, snapshot: Snapshot, ring: Callable[[Key], None], affected: Callable[[Manifest], set[Key]]
) -> Callable[..., Any]:
    async def handle(event: Any, **_: Any) -> None:
        manifest: Manifest = {"apiVersion": kind.api_version, "kind": kind.name, **event["object"]}
        before = snapshot.get(kind, key_of(manifest))
        if not snapshot.observe(event["type"], manifest):
            return
        for key in affected(manifest) | (affected(before) if before is not None else set()):
            ring(key)

    return handle
