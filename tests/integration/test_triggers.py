"""kopf's watches on a real API server: what they bring, with which rights, and how they end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from neuron_localcluster.cluster import Cluster
from neuron_operator.api.objects import SERVICE, SERVICE_ACCOUNT, Key, Manifest, key_of, labels_of
from neuron_operator.kube.access import ClusterAccess
from neuron_operator.loop import triggers
from neuron_operator.loop.snapshot import Snapshot
from neuron_operator.loop.triggers import Watches, WatchesEnded
from support.api_server import access_by, limited_kubeconfig
from support.audit import audit_events
from support.kubectl import Kubectl
from support.recording import eventually

pytestmark = pytest.mark.cluster

_KINDS = (SERVICE, SERVICE_ACCOUNT)
_SELECTOR = "example.dev/managed=yes"
_RULES = [{"apiGroups": [""], "resources": ["services", "serviceaccounts"], "verbs": ["list", "watch"]}]


def _affected(manifest: Manifest) -> set[Key]:
    if manifest["kind"] == SERVICE.name:
        return {key_of(manifest)}
    return {Key(manifest["metadata"]["namespace"], labels_of(manifest)["example.dev/parent"])}


class _Doorbell:
    """Watches over Services and, by label, over ServiceAccounts; and whom they have rung for."""

    def __init__(
        self,
        access: ClusterAccess,
        *,
        login_lifetime: float = 600,
        server_timeout: float | None = None,
        ending: float = 60,
    ) -> None:
        self.rung: list[Key] = []
        self.snapshot = Snapshot(_KINDS, [])
        self.logins = 0
        self._access = access
        settings = triggers.settings([SERVICE_ACCOUNT], _SELECTOR)
        settings.watching.server_timeout = server_timeout
        settings.networking.error_backoffs = [0.1]
        self.watches = Watches(
            triggers.registry(
                _KINDS,
                self.snapshot,
                self.rung.append,
                _affected,
                self._connection,
                login_lifetime=timedelta(seconds=login_lifetime),
            ),
            settings,
            ending=timedelta(seconds=ending),
        )

    def _connection(self) -> dict[str, Any]:
        self.logins += 1
        return self._access.connection()

    async def during(self, test: Callable[[], Awaitable[None]]) -> None:
        """Watch while a test goes on."""
        await self.watches.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watches.run())
            await test()
            self.watches.stop()
        assert not self.watches.are_running()
        await self.disconnected()

    async def disconnected(self) -> None:
        """Wait until the connections are closed, which kopf does not wait for; the loop must not end before."""
        port = int(self._access.server.rpartition(":")[2])

        async def look() -> bool | None:
            sockets = psutil.Process().net_connections("tcp")
            return None if any(found.raddr and found.raddr.port == port for found in sockets) else True

        await eventually("disconnected", look)

    async def woken(self, *keys: Key) -> None:
        """Wait until these have been rung for, and start anew."""

        async def look() -> bool | None:
            return True if set(keys) <= set(self.rung) else None

        await eventually(f"rung for {keys}", look)
        self.rung.clear()


async def _kubectl(kubectl: Kubectl, *arguments: str) -> str:
    return await asyncio.to_thread(kubectl, *arguments)


@pytest.fixture
def admin(cluster: Cluster) -> ClusterAccess:
    return access_by(cluster.kubeconfig)


async def test_models_ring_as_they_are_and_children_by_their_label(
    admin: ClusterAccess, kubectl: Kubectl, namespace: str
) -> None:
    in_namespace = f"--namespace={namespace}"
    kubectl("create", "service", "clusterip", "before", "--tcp=8080", in_namespace)
    doorbell = _Doorbell(admin)

    async def test() -> None:
        await doorbell.woken(Key(namespace, "before"))
        assert doorbell.watches.are_running()
        known = doorbell.snapshot.get(SERVICE, Key(namespace, "before"))
        live = kubectl.json("get", "service/before", in_namespace)
        assert known == live, "nothing of kopf's is written on it"

        await _kubectl(kubectl, "create", "serviceaccount", "child", in_namespace)
        labels = ("example.dev/managed=yes", "example.dev/parent=x")
        await _kubectl(kubectl, "label", "serviceaccount/child", *labels, in_namespace)
        await doorbell.woken(Key(namespace, "x"))
        assert [key_of(found).name for found in doorbell.snapshot.list(SERVICE_ACCOUNT)] == ["child"]

        await _kubectl(kubectl, "label", "serviceaccount/child", "example.dev/parent=y", "--overwrite", in_namespace)
        await doorbell.woken(Key(namespace, "x"), Key(namespace, "y"))

        await _kubectl(kubectl, "label", "serviceaccount/child", "example.dev/managed-", in_namespace)
        await doorbell.woken(Key(namespace, "y"))
        assert doorbell.snapshot.list(SERVICE_ACCOUNT) == []

        await _kubectl(kubectl, "delete", "service/before", in_namespace)
        await doorbell.woken(Key(namespace, "before"))
        assert doorbell.snapshot.get(SERVICE, Key(namespace, "before")) is None

    await doorbell.during(test)


async def test_list_and_watch_are_all_the_rights_it_needs_and_all_it_does(
    cluster: Cluster, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    path, user = limited_kubeconfig(cluster, kubectl, namespace, tmp_path, _RULES)
    doorbell = _Doorbell(access_by(path))

    async def test() -> None:
        await _kubectl(kubectl, "create", "service", "clusterip", "new", "--tcp=8080", f"--namespace={namespace}")
        await doorbell.woken(Key(namespace, "new"))

    await doorbell.during(test)
    events = [event for event in audit_events(cluster.audit_log) if event["user"].get("username") == user]
    asked = {(event["verb"], event.get("objectRef", {}).get("resource", "")) for event in events}
    assert {(verb, resource) for verb, resource in asked if resource} == {
        (verb, kind.plural) for verb in ("list", "watch") for kind in _KINDS
    }
    assert {verb for verb, resource in asked if not resource} <= {"get"}
    assert not [event for event in events if event["responseStatus"]["code"] == 403]


async def test_credentials_are_renewed_without_losing_an_event(
    admin: ClusterAccess, kubectl: Kubectl, namespace: str
) -> None:
    doorbell = _Doorbell(admin, login_lifetime=0.5, server_timeout=1)

    async def test() -> None:
        for number in range(3):
            logins = doorbell.logins

            async def renewed(before: int = logins) -> bool | None:
                return True if doorbell.logins > before else None

            await eventually("logged in again", renewed)
            name = f"s{number}"
            await _kubectl(kubectl, "create", "service", "clusterip", name, "--tcp=8080", f"--namespace={namespace}")
            await doorbell.woken(Key(namespace, name))

    await doorbell.during(test)


async def test_watches_that_end_by_themselves_are_told_at_once_and_raise(
    cluster: Cluster, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    # One right is missing, not both: kopf never asks for the error of the second watch that ends.
    rules = [{**_RULES[0], "resources": ["services"]}]
    path, _ = limited_kubeconfig(cluster, kubectl, namespace, tmp_path, rules)
    # kopf does not always end: it can lose the cancellation of a part.
    doorbell = _Doorbell(access_by(path), ending=15)
    watches = doorbell.watches
    assert not watches.are_running()
    await watches.start()
    running = asyncio.create_task(watches.run())

    await asyncio.wait(watches._tasks, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    assert watches._started.is_set()
    assert not watches.are_running()
    assert not running.done(), "readiness must be gone while kopf still ends"
    with pytest.raises(WatchesEnded, match=r"kopf cannot watch any more: .*forbidden"):
        await running
    await doorbell.disconnected()


async def test_a_task_that_ignores_kopf_does_not_keep_it_from_ending(
    cluster: Cluster, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    path, _ = limited_kubeconfig(cluster, kubectl, namespace, tmp_path, [])
    doorbell = _Doorbell(access_by(path), ending=0.5)
    released = asyncio.Event()

    async def stubborn() -> None:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    await doorbell.watches.start()
    task = asyncio.create_task(stubborn())
    with pytest.raises(WatchesEnded, match="forbidden"):
        await doorbell.watches.run()
    released.set()
    await task
    await doorbell.disconnected()


async def test_signals_can_be_taken_back_from_kopf(admin: ClusterAccess) -> None:
    doorbell = _Doorbell(admin)
    taken = asyncio.Event()

    async def test() -> None:
        await doorbell.woken(Key("default", "kubernetes"))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, taken.set)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(taken.wait(), 5)
        assert doorbell.watches.are_running()

    await doorbell.during(test)
