"""The one cluster of a test run: which images it knows, where it lies, and how a killed run is cleaned up after."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from neuron_localcluster.cluster import Cluster
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.record import Image
from neuron_operator import __version__

_FOLDER = Path(tempfile.gettempdir()) / f"neuron-operator-tests-{os.getuid()}"


def images() -> dict[str, Image]:
    """Every image of the project stands for the environment that runs the tests, with the compiler that they have."""
    compiler = shutil.which("g++")
    environment: Image = {"path": str(Path(sys.executable).parent), "env": {"CXX": compiler} if compiler else {}}
    return {f"neuron-operator.dev/{name}:{__version__}": environment for name in ("operator", "cpu", "cpu-compile")}


def own_cluster() -> Cluster:
    """A cluster that no other run uses; the folder's name tells later runs whose it is."""
    return Cluster(_FOLDER / str(os.getpid()), images=images())


def end_abandoned_clusters() -> None:
    """End and delete what runs have left that failed, or were killed before they could clean up."""
    for folder in _FOLDER.glob("[0-9]*"):
        if Path("/proc", folder.name).exists():
            continue
        try:
            Cluster(folder).down(purge=True)
        except ClusterError:
            continue
