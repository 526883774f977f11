"""An encoder, compiled and loaded by the CPU engine: its vectors are those of transformers, in every bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from neuron_runtime.contract.request import Shapes, Task
from neuron_runtime.engines.base import EncoderSession
from neuron_runtime.engines.cpu import CPUEngine
from support.compiled_model import compile_model, cpu_request
from support.tiny_bert import MAX_LENGTH, MEAN, VOCABULARY, mean_vectors, tiny_bert, use_modules

# The fixture compiles two graphs, on a machine that may have other work.
pytestmark = pytest.mark.timeout(1200)

_SHAPES = Shapes(
    max_model_length=MAX_LENGTH, max_batch_size=2, context_lengths=(MAX_LENGTH,), token_generation_batches=()
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "source"
    tiny_bert(folder)
    use_modules(folder, "Transformer", "Pooling", "Normalize", **{MEAN: True})
    return folder


@pytest.fixture(scope="module")
def session(source: Path) -> Iterator[EncoderSession]:
    manifest, _ = compile_model(source, source.parent, cpu_request(_SHAPES, task=Task.EMBEDDING))
    assert {graph.name for graph in manifest.graphs} == {"encode-1x32", "encode-2x32"}
    loaded = CPUEngine().load(manifest, source.parent / "artifact", source, threads=1)
    assert isinstance(loaded, EncoderSession)
    loaded.warm_up()
    yield loaded
    loaded.close()


def test_what_it_can_do(session: EncoderSession) -> None:
    limits = session.capabilities
    assert (limits.lengths, limits.batches, limits.dimensions) == ((MAX_LENGTH,), (1, 2), 48)
    assert (limits.max_length, limits.vocabulary) == (MAX_LENGTH, VOCABULARY)


@pytest.mark.parametrize("lengths", [[1], [16], [32], [3, 16], [32, 1]])
def test_vectors_are_those_of_transformers(session: EncoderSession, source: Path, lengths: list[int]) -> None:
    generator = np.random.default_rng(sum(lengths))
    rows = [generator.integers(0, VOCABULARY, length).tolist() for length in lengths]
    padded = torch.zeros(len(rows), max(lengths), dtype=torch.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row)
    expected = mean_vectors(source, padded, torch.tensor(lengths)).numpy()
    assert np.allclose(session.encode(rows), expected, atol=1e-5)


def test_a_text_has_the_same_vector_whatever_came_before(session: EncoderSession) -> None:
    alone = session.encode([[5, 6, 7]]).copy()
    session.encode([[9] * 32, [8] * 30])
    assert np.array_equal(session.encode([[5, 6, 7]]), alone)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "1 to 2 texts of 1 to 32"),
        ([[]], "1 to 2 texts of 1 to 32"),
        ([[1] * 33], "1 to 2 texts of 1 to 32"),
        ([[1], [2], [3]], "1 to 2 texts of 1 to 32"),
        ([[VOCABULARY]], f"below {VOCABULARY}"),
        ([[-1]], f"below {VOCABULARY}"),
    ],
)
def test_what_no_graph_takes_is_refused(session: EncoderSession, rows: list[list[int]], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        session.encode(rows)
