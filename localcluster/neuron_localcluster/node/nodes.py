"""Registers Node objects and keeps them alive: status, Leases."""

from __future__ import annotations

import asyncio
import logging
import platform
from pathlib import Path
from typing import Any

import aiohttp

from neuron_localcluster import proc
from neuron_localcluster.binaries.pins import KUBERNETES_VERSION
from neuron_localcluster.node import clock
from neuron_localcluster.node.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH, APIClient, APIError
from neuron_localcluster.node.config import NodeConfig
from neuron_localcluster.node.sandbox import HOST_IP
from neuron_localcluster.node.state import Manifest

_log = logging.getLogger(__name__)

_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_NODES = "/api/v1/nodes"
_LEASE_SECONDS = 40
_RENEW_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_REPORT_EVERY = 30
"""Renewals between two reports of an unchanged node status: five minutes, as the kubelet does."""


def node_manifest(node: NodeConfig) -> Manifest:
    """The Node object as it is created."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": dict(node.labels)},
        "spec": {"taints": [dict(taint) for taint in node.taints]},
    }


def node_status(node: NodeConfig, kubelet_port: int, now: str) -> Manifest:
    """A ready node's status."""
    conditions = [
        _condition("Ready", "True", "KubeletReady", "the node agent runs pods as local processes", now),
        _condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "", now),
        _condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "", now),
        _condition("PIDPressure", "False", "KubeletHasSufficientPID", "", now),
    ]
    return {
        "capacity": dict(node.capacity),
        "allocatable": dict(node.capacity),
        "conditions": conditions,
        "addresses": [{"type": "InternalIP", "address": HOST_IP}, {"type": "Hostname", "address": node.name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
        "nodeInfo": _node_info(),
    }


class NodeKeeper:
    """One node: `ready` is set once the API server has it as Ready."""

    def __init__(self, api: APIClient, node: NodeConfig, kubelet_port: int) -> None:
        self.ready = asyncio.Event()
        self._api = api
        self._node = node
        self._port = kubelet_port

    async def run(self) -> None:
        """Register, then renew; never returns. An API server that is away is tried again."""
        renewals = 0
        renewed = clock.now()
        while True:
            try:
                # By the wall clock, which goes on while a laptop sleeps: the node has been found dead meanwhile.
                expired = (clock.now() - renewed).total_seconds() > _LEASE_SECONDS
                if expired or renewals % _REPORT_EVERY == 0:
                    uid = await self._register()
                await self._renew(uid)
                renewed = clock.now()
                self.ready.set()
                renewals += 1
                await asyncio.sleep(_RENEW_SECONDS)
            except (APIError, aiohttp.ClientError, TimeoutError) as error:
                _log.warning("node %s: %r", self._node.name, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _register(self) -> str:
        path = f"{_NODES}/{self._node.name}"
        manifest = node_manifest(self._node)
        present = await self._api.find(path)
        if present is None:
            present = await self._api.post(_NODES, manifest)
        else:
            taints = _merged_taints(present, manifest)
            body = {"metadata": manifest["metadata"], "spec": {"taints": taints}}
            await self._api.patch(path, body, MERGE_PATCH)
        known = {c["type"]: c for c in (present.get("status") or {}).get("conditions") or ()}
        status = node_status(self._node, self._port, clock.seconds_text(clock.now()))
        for condition in status["conditions"]:
            before = known.get(condition["type"], {})
            if before.get("status") == condition["status"]:
                condition["lastTransitionTime"] = before["lastTransitionTime"]
        await self._api.patch(f"{path}/status", {"status": status}, STRATEGIC_MERGE_PATCH)
        return str(present["metadata"]["uid"])

    async def _renew(self, uid: str) -> None:
        name = self._node.name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": _LEASE_SECONDS,
            "renewTime": clock.micros_text(clock.now()),
        }
        try:
            await self._api.patch(f"{_LEASES}/{name}", {"spec": spec}, MERGE_PATCH)
        except APIError as error:
            if error.status != 404:
                raise
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
            metadata = {"name": name, "ownerReferences": [owner]}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await self._api.post(_LEASES, lease)


def _merged_taints(present: Manifest, wanted: Manifest) -> list[Any]:
    # Taints of the node lifecycle controller are its own to take away.
    foreign = [taint for taint in present["spec"].get("taints") or () if taint["key"].startswith("node.kubernetes.io/")]
    return [*wanted["spec"]["taints"], *foreign]


def _condition(type_: str, status: str, reason: str, message: str, now: str) -> Manifest:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def _node_info() -> Manifest:
    machine = Path("/etc/machine-id")
    identity = machine.read_text(encoding="ascii").strip() if machine.exists() else ""
    return {
        "machineID": identity,
        "systemUUID": identity,
        "bootID": proc.boot_id(),
        "kernelVersion": platform.release(),
        "osImage": "processes of this machine",
        "containerRuntimeVersion": "process://1",
        "kubeletVersion": KUBERNETES_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    }
