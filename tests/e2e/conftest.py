"""The operator, installed once per module, so that tests of its parts on the same cluster are left alone by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from neuron_localcluster.cluster import Cluster
from support.kubectl import Kubectl
from support.operator import InstalledOperator, installed_operator


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InstalledOperator]:
    with installed_operator(cluster, kubectl, tmp_path_factory.mktemp("chart")) as installed:
        yield installed
