"""A sentence encoder from manifest to vectors, which are those of transformers with sentence-transformers' recipe."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openai
import pytest
import torch
import yaml

from demo.settings import ROOT
from neuron_localcluster.standins.models import MINILM, ensure_minilm
from support.operator import BUCKET, InstalledOperator
from support.readme import curl

pytestmark = [pytest.mark.cluster, pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(1500)]

_TEXTS = (
    "Hello",
    "The capital of France is Paris.",
    "Paris ist die Hauptstadt von Frankreich.",
    "Grüße, 世界! 👋",
    "How do I reset my password?",
    "I forgot my password and cannot sign in.",
    "A man is eating food.",
    "Compilers turn programs into instructions. " * 4,
    "It was the best of times, it was the worst of times, it was the age of wisdom, " * 7,
    "The quick brown fox jumps over the lazy dog. " * 24,
)


def test_vectors_are_those_of_transformers(operator: InstalledOperator, namespace: str) -> None:
    source = ensure_minilm()
    shutil.copytree(source, operator.cluster.hub_root / MINILM, dirs_exist_ok=True)
    manifest = yaml.safe_load((ROOT / "examples" / "minilm.yaml").read_text())
    manifest["metadata"]["namespace"] = namespace
    manifest["spec"]["artifactStore"]["s3"]["bucket"] = BUCKET
    operator.kubectl("create", "-f", "-", document=manifest)
    operator.wait_until_ready(namespace, "minilm", seconds=1200)
    client = openai.OpenAI(base_url=operator.endpoint(namespace, "minilm"), api_key="none", max_retries=0)
    expected, tokens = _reference(source, _TEXTS)
    assert max(map(len, tokens)) > 200

    numbers = client.embeddings.create(model="minilm", input=list(_TEXTS), encoding_format="float")
    coded: Any = client.embeddings.create(model="minilm", input=list(_TEXTS), encoding_format="base64")
    as_tokens = client.embeddings.create(model="minilm", input=tokens)
    single = [client.embeddings.create(model="minilm", input=text).data[0].embedding for text in _TEXTS]

    decoded = [np.frombuffer(base64.b64decode(one.embedding), "<f4") for one in coded.data]
    found = {
        "floats": [one.embedding for one in numbers.data],
        "base64": decoded,
        "tokens": [one.embedding for one in as_tokens.data],
        "one by one": single,
    }
    for how, vectors in found.items():
        assert np.abs(np.array(vectors) - expected).max() < 1e-4, how
    assert numbers.usage.prompt_tokens == sum(map(len, tokens))
    readme = curl("/embeddings", operator.endpoint(namespace, "minilm"), "minilm")
    assert [len(one["embedding"]) for one in readme["data"]] == [expected.shape[1]] * 2
    with pytest.raises(openai.BadRequestError, match="up to 256 tokens"):
        client.embeddings.create(model="minilm", input="long " * 300)
    with pytest.raises(openai.NotFoundError, match="task Embedding"):
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "Hello"}])


def _reference(source: Path, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], list[list[int]]]:
    """float32[texts, dimensions], each text by itself: the mean of its tokens' vectors, of length 1; and the tokens."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    model: Any = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    tokens = [tokenizer(text)["input_ids"] for text in texts]
    with torch.no_grad():
        means = [model(torch.tensor([ids])).last_hidden_state.mean(1) for ids in tokens]
    return torch.nn.functional.normalize(torch.cat(means), dim=-1).numpy(), tokens
