"""Loads an artifact's graphs for a CPU, as its files arrive: weights, which take longest to come, are needed last."""

from pathlib import Path

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.store.files import contained

from .aot_inductor import Graph, Tensor
from .base import Wait
from .weight_file import WEIGHTS, map_weights


def load_graphs(manifest: ArtifactManifest, folder: Path, wait: Wait) -> dict[str, Graph]:
    """By path, and with their weights. Raises OSError, RuntimeError, KeyError or ValueError for files that do not fit,
    and whatever `wait` raises."""
    graphs = dict[str, Graph]()
    for graph in manifest.graphs:
        wait(graph.path)
        graphs[graph.path] = Graph(contained(folder, graph.path))
    wait(WEIGHTS)
    weights = {name: Tensor(array) for name, array in map_weights(folder / WEIGHTS).items()}
    for loaded in graphs.values():
        loaded.read(weights)
    return graphs
