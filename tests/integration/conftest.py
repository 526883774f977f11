"""What is made once for all tests of the engine and of the server: a two-layer model, compiled, and its server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from neuron_localcluster.standins.tiny_llama import tiny_llama
from support.compiled_model import TINY_SHAPES, CompiledModel, compile_model, cpu_request
from support.serving_process import ServingProcess, serving_process


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    """Compiled once, since that takes about a minute."""
    folder = tmp_path_factory.mktemp("tiny-model")
    source = folder / "source"
    source.mkdir()
    tiny_llama(source, seed=7)
    manifest, progress = compile_model(source, folder, cpu_request(TINY_SHAPES))
    return CompiledModel(source, folder / "artifact", manifest, progress)


@pytest.fixture(scope="session")
def tiny_server(tiny_model: CompiledModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """Four slots of 64 tokens. Whoever uses it leaves nothing in it."""
    folder = tmp_path_factory.mktemp("tiny-server")
    with serving_process(folder, tiny_model.manifest, tiny_model.artifact, tiny_model.source) as server:
        yield server
