"""What all tests share: one local cluster per run, a namespace per test, and kubectl."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import settings

from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.standins.models import ensure_minilm, ensure_smollm2
from support.kubectl import Kubectl
from support.local_cluster import end_abandoned_clusters, own_cluster

# The same examples in every run. `pytest --hypothesis-profile=default` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

_PROXIES = re.compile(r"(all|ftp|https?|no)_proxy", re.IGNORECASE)


@pytest.fixture(scope="session", autouse=True)
def no_proxy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests talk to this machine alone, for which no proxy is to be asked; what they need from afar comes first."""
    needs = {marker.name for item in request.session.items for marker in item.iter_markers()}
    if "cluster" in needs:
        ensure_binaries()
    if "model" in needs:
        ensure_smollm2()
        ensure_minilm()
    with pytest.MonkeyPatch.context() as patch:
        for name in filter(_PROXIES.fullmatch, list(os.environ)):
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The run's cluster. A failed run keeps its logs until the next one, as does one whose cluster does not start."""
    end_abandoned_clusters()
    cluster = own_cluster()
    is_up = False
    try:
        cluster.up()
        is_up = True
        yield cluster
    finally:
        cluster.down(purge=is_up and request.session.testsfailed == 0)


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(ensure_binaries().kubectl, cluster.kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, in which pods can be created at once."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].rstrip("-")
    name = f"{words}-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=120s")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
