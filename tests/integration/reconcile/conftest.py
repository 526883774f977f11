"""A real API server with the CRD, a real S3 API, a hub, and an operator that acts when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import aiohttp
import boto3
import pytest

from neuron_localcluster.cluster import Cluster
from neuron_operator.aws.artifacts import S3Artifacts
from neuron_operator.hub import HuggingFaceHub
from neuron_operator.kube.access import cluster_access
from neuron_operator.kube.gateway import Gateway
from neuron_operator.probe import progress_probe
from support.artifact_store import BUCKET, ArtifactStore
from support.definition import definition_installed
from support.hub import Hub, serving_hub
from support.kubectl import Kubectl
from support.models import SETTINGS
from support.object_store import CREDENTIALS, object_store
from support.reconciling import World

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


@pytest.fixture(scope="package")
def ctl(kubectl: Kubectl) -> Iterator[Kubectl]:
    """kubectl against a cluster that has the CRD; the CRD goes again if it came with these tests."""
    with definition_installed(kubectl):
        yield kubectl


@pytest.fixture(scope="package")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Client]:
    """A client of the S3 API that the operator's environment names, too."""
    with object_store(tmp_path_factory.mktemp("s3"), BUCKET) as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": endpoint}.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        yield client
        client.close()


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with serving_hub() as hub:
        yield hub


@pytest.fixture
async def world(cluster: Cluster, ctl: Kubectl, namespace: str, hub: Hub, s3: S3Client) -> AsyncIterator[World]:
    artifacts = S3Artifacts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        access = cluster_access()
    async with Gateway(access) as gateway, aiohttp.ClientSession() as session, progress_probe() as progress:
        yield World(
            namespace,
            kubectl=ctl,
            gateway=gateway,
            artifacts=artifacts,
            hub=HuggingFaceHub(session, hub.endpoint),
            progress=progress,
            settings=SETTINGS,
        )
    artifacts.close()


@pytest.fixture
def store(s3: S3Client, world: World, hub: Hub) -> ArtifactStore:
    return ArtifactStore(s3, world.namespace, hub.digest)
