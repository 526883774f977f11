"""What all lives of one test share: an API server on which a simulator plays controllers and nodes, a hub, S3."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3

from neuron_localcluster.cluster import Cluster
from neuron_localcluster.node import kubeconfig
from neuron_localcluster.node.api import APIClient
from neuron_localcluster.node.kubeconfig import Access
from neuron_localcluster.simulator import BUILT_IN, ContainerEnd, Resource, simulated_workloads
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.launch import COMPILE_SPEC_VARIABLE, CompileSpec
from neuron_runtime.contract.source import SourceManifest, StoredFile
from neuron_runtime.contract.store import MANIFEST
from support.hub import Hub, serving_hub
from support.object_store import CREDENTIALS

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "artifacts"
NEURON_MODELS = Resource("neuron-operator.dev/v1alpha1", "NeuronModel", "neuronmodels")
NAMESPACES = "/api/v1/namespaces"

Compile = Callable[[dict[str, Any]], Awaitable[ContainerEnd]]


@dataclass
class Bed:
    """Where lives take place. Each has a namespace of its own."""

    api: APIClient
    access: Access
    session: aiohttp.ClientSession
    hub: Hub
    s3: S3Client
    s3_endpoint: str
    zygote: Path
    folder: Path
    compiles: dict[str, Compile] = field(default_factory=dict)
    """What becomes of Jobs, by namespace, where it is not success."""
    commits: set[asyncio.Future[None]] = field(default_factory=set)
    """Uploads that are under way."""

    async def new_namespace(self) -> str:
        name = f"life-{secrets.token_hex(4)}"
        await self.api.post(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    async def job_ends(self, job: dict[str, Any]) -> ContainerEnd:
        compile_ = self.compiles.get(job["metadata"]["namespace"])
        return await compile_(job) if compile_ is not None else await self.compile(job)

    async def compile(self, job: dict[str, Any]) -> ContainerEnd:
        """What the compile container does when all goes well: commit the artifact and its source."""
        (container,) = job["spec"]["template"]["spec"]["containers"]
        variables = {item["name"]: item.get("value", "") for item in container["env"]}
        spec = CompileSpec.model_validate_json(variables[COMPILE_SPEC_VARIABLE])
        commit = asyncio.ensure_future(asyncio.to_thread(self._commit, spec))
        self.commits.add(commit)
        commit.add_done_callback(self.commits.discard)
        # A thread goes on when who waits for it is cancelled.
        await asyncio.shield(commit)
        return ContainerEnd()

    def _commit(self, spec: CompileSpec) -> None:
        source = SourceManifest(digest=spec.request.source_digest, repo="a/b", commit="c" * 40, files=())
        artifact = ArtifactManifest(
            digest=spec.request.digest,
            request=spec.request,
            source_commit="c" * 40,
            graphs=(),
            files=(StoredFile(path="a", size=3, sha256="0" * 64),),
            tools={},
            timings={},
            created_at="2026-01-01T00:00:00Z",
        )
        store = spec.store
        for key, manifest in (
            (store.source_prefix(source.digest), source),
            (store.artifact_prefix(artifact.digest), artifact),
        ):
            self.s3.put_object(Bucket=store.bucket, Key=key + MANIFEST, Body=manifest.to_json().encode())


@asynccontextmanager
async def test_bed(cluster: Cluster, zygote: Path, folder: Path) -> AsyncIterator[Bed]:
    """Everything at work in this event loop."""
    access = kubeconfig.load(cluster.kubeconfig)
    s3 = boto3.session.Session().client(
        "s3",
        endpoint_url=cluster.aws_endpoint,
        region_name=CREDENTIALS["AWS_REGION"],
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
    connector = aiohttp.TCPConnector(ssl=access.ssl, limit=0)
    async with (
        APIClient(access) as api,
        aiohttp.ClientSession(connector=connector) as session,
        serving_hub() as hub,
    ):
        bed = Bed(api, access, session, hub, s3, cluster.aws_endpoint, zygote, folder)
        async with simulated_workloads(
            cluster.kubeconfig, job_ends=bed.job_ends, deployment_pods=True, garbage=(NEURON_MODELS, *BUILT_IN)
        ):
            yield bed
        if bed.commits:
            # A client that is closed under an upload would leave its connection open.
            await asyncio.wait(bed.commits)
    s3.close()


def canonical_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, indent=1)
