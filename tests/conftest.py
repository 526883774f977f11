"""What all tests share: one local cluster per run, a namespace per test, and kubectl."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest

from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.cluster import Cluster
from support.kubectl import Kubectl
from support.local_cluster import end_abandoned_clusters, own_cluster


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The run's cluster. A failed run keeps its logs until the next one."""
    end_abandoned_clusters()
    cluster = own_cluster()
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down(purge=request.session.testsfailed == 0)


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(ensure_binaries().kubectl, cluster.kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, in which pods can be created at once."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].rstrip("-")
    name = f"{words}-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=30s")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
