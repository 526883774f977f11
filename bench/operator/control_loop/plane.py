"""A control plane for one contestant, with what stands beside it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from control_loop import objects
from control_loop.contestant import Endpoints
from neuron_localcluster import ports
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.node import kubeconfig
from neuron_localcluster.node.api import APIClient, APIError

_DEFINITION = Path(__file__).parents[3] / "crds" / "neuron-operator.dev_neuronmodels.yaml"
_ACCOUNT = "contestant"


@dataclass(frozen=True)
class Plane:
    """A control plane in which there is nothing yet but namespaces and the definition of NeuronModel."""

    cluster: Cluster
    api: APIClient
    """As an administrator."""
    kubeconfig: Path
    """Of the contestant: a ServiceAccount, whose requests the API server queues as it does those of any operator."""
    endpoints: Endpoints
    store: objects.Store
    folder: Path


@asynccontextmanager
async def plane(repositories: int, *, controllers: bool) -> AsyncIterator[Plane]:
    """Start one, and take all of it away again."""
    with tempfile.TemporaryDirectory(prefix="neuron-operator-bench-") as name:
        folder = Path(name)
        hub = folder / "hub"
        objects.add_repositories(hub, repositories)
        cluster = Cluster(folder / "cluster", nodes=[], hub_root=hub, controllers=controllers)
        try:
            await asyncio.to_thread(cluster.up)
            with _object_server() as store:
                async with APIClient(kubeconfig.load(cluster.kubeconfig)) as api, aiohttp.ClientSession() as session:
                    own = await _prepare(api, cluster, folder)
                    endpoints = Endpoints(hub=cluster.hub_endpoint, store=store)
                    yield Plane(cluster, api, own, endpoints, objects.Store(session, store), folder)
        finally:
            await asyncio.to_thread(cluster.down, purge=True)


async def _prepare(api: APIClient, cluster: Cluster, folder: Path) -> Path:
    definition = yaml.safe_load(_DEFINITION.read_text())
    await api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    for name in objects.namespaces():
        await api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    path = objects.NEURON_MODELS.path()
    while True:
        try:
            await api.list(path)
            break
        except APIError:
            await asyncio.sleep(0.2)
    return await _account(api, cluster, folder)


async def _account(api: APIClient, cluster: Cluster, folder: Path) -> Path:
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await api.post(accounts, {"metadata": {"name": _ACCOUNT}})
    binding = {
        "metadata": {"name": _ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": "default"}],
    }
    await api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    request: dict[str, Any] = {"spec": {"audiences": [], "expirationSeconds": 24 * 3600}}
    answer = await api.post(f"{accounts}/{_ACCOUNT}/token", request)
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"token": answer["status"]["token"]}
    own = folder / "contestant.kubeconfig"
    own.write_text(yaml.safe_dump(document))
    return own


@contextmanager
def _object_server() -> Iterator[str]:
    port = ports.assign(["store"], {})["store"]
    command = [sys.executable, "-m", "control_loop.object_server", str(port)]
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
