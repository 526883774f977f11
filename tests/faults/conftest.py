"""An API server without controllers, and a process that starts operators in a moment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from faults.bed import BUCKET, Bed, test_bed
from faults.trials import tally
from neuron_localcluster.binaries.locate import ensure_binaries
from neuron_localcluster.cluster import Cluster
from neuron_localcluster.standins import aws
from support.definition import definition_installed
from support.kubectl import Kubectl
from support.waiting import wait_for


@pytest.fixture(scope="package")
def bare_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server beside which nothing acts on objects, with the CRD, and the bucket."""
    cluster = Cluster(tmp_path_factory.mktemp("bare"), nodes=[], controllers=False)
    try:
        cluster.up()
        aws.ensure_bucket(cluster.aws_endpoint, BUCKET)
        with definition_installed(Kubectl(ensure_binaries().kubectl, cluster.kubeconfig)):
            yield cluster
    finally:
        cluster.down(purge=True)


@pytest.fixture(scope="package")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Socket of the process that forks operators."""
    folder = tmp_path_factory.mktemp("zygote")
    path, log = folder / "socket", folder / "log"
    tests = Path(__file__).parents[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "faults.zygote", str(path)],
            cwd=tests,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for("the zygote", lambda: path.exists() or None, seconds=120, describe=log.read_text)
        yield path
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


@pytest.fixture
async def bed(bare_cluster: Cluster, zygote: Path, tmp_path: Path) -> AsyncIterator[Bed]:
    async with test_bed(bare_cluster, zygote, tmp_path) as bed:
        yield bed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried."""
    if tally:
        terminalreporter.section("faults")
        for what, count in sorted(tally.items()):
            terminalreporter.line(f"{count:6} {what}")
