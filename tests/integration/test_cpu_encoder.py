"""An encoder, compiled and loaded by the CPU engine: its vectors are those of transformers, in every bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import httpx
import numpy as np
import pytest
import torch

from neuron_runtime.contract.request import Shapes, Task
from neuron_runtime.engines.base import EncoderSession
from neuron_runtime.engines.cpu import CPUEngine
from neuron_runtime.serving.app import build_app
from neuron_runtime.serving.encoding_scheduler import EncodingScheduler
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.state import ServedEncoder, ServerState
from neuron_runtime.serving.tokenization import load_tokenizer
from support.compiled_model import compile_model, cpu_request
from support.tiny_bert import MAX_LENGTH, MEAN, VOCABULARY, mean_vectors, tiny_bert, tiny_tokenizer, use_modules

# The fixture compiles two graphs, on a machine that may have other work.
pytestmark = pytest.mark.timeout(1200)

_SHAPES = Shapes(
    max_model_length=MAX_LENGTH, max_batch_size=2, context_lengths=(MAX_LENGTH,), token_generation_batches=()
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "source"
    tiny_bert(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
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


async def test_the_server_answers_with_the_vectors_of_transformers(session: EncoderSession, source: Path) -> None:
    metrics, state = Metrics(), ServerState()
    scheduler = EncodingScheduler(session, metrics, queue_limit=100)
    tokenizer = load_tokenizer(source)
    texts = ["a", "the quick brown fox", "lazy dogs", "jumps over a dog " * 2, "Hello, World"]
    tokens = [tokenizer.encode_text(text, MAX_LENGTH, special=True) for text in texts]
    assert [ids[0] for ids in tokens] == [2] * 5 and [ids[-1] for ids in tokens] == [3] * 5
    expected = [mean_vectors(source, torch.tensor([ids]), torch.tensor([len(ids)]))[0].numpy() for ids in tokens]
    # The thread closes the session that it ends with, and this one is all tests'.
    with patch.object(session, "close"):
        scheduler.start()
        state.serve(ServedEncoder("tiny", 0, tokenizer, scheduler))
        transport = httpx.ASGITransport(build_app(state, metrics))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            whole = client.post("/v1/embeddings", json={"model": "tiny", "input": texts})
            each = (client.post("/v1/embeddings", json={"model": "tiny", "input": text}) for text in texts)
            answers = [answer.raise_for_status().json() for answer in await asyncio.gather(whole, *each)]
        scheduler.close(60)
    for answer, wanted in zip(answers, [expected, *([vector] for vector in expected)], strict=True):
        assert np.allclose([one["embedding"] for one in answer["data"]], wanted, atol=1e-5)


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
