"""Documents between operator and containers of different releases, and where they lie in a store."""

from __future__ import annotations

import pytest

from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.progress import Progress, Stage
from neuron_runtime.contract.request import Engine
from neuron_runtime.contract.source import StoredFile
from neuron_runtime.contract.store import StoreLocation

_DIGEST = f"sha256:{'a' * 64}"


def test_an_older_reader_ignores_what_a_newer_writer_adds() -> None:
    spec = ServingSpec(
        artifact_digest=_DIGEST,
        source_digest=_DIGEST,
        engine=Engine.CPU,
        store=StoreLocation(bucket="b", domain="shared"),
        served_name="m",
    )
    document = spec.to_document()
    assert "sourceDigest" in document and "namespace" not in document
    assert ServingSpec.model_validate(document | {"addedLater": 1}) == spec


def test_a_newer_contract_is_refused() -> None:
    with pytest.raises(ValueError, match="contractVersion"):
        ServingSpec.model_validate({"contractVersion": 2})


@pytest.mark.parametrize(
    ("prefix", "beginning"), [("", "ns/ml/"), ("team", "team/ns/ml/"), ("/team/a/", "team/a/ns/ml/")]
)
def test_where_things_lie_in_a_store(prefix: str, beginning: str) -> None:
    store = StoreLocation(bucket="b", prefix=prefix, domain="ns/ml")
    assert store.source_prefix(_DIGEST) == f"{beginning}sources/{'a' * 64}/"
    assert store.artifact_prefix(_DIGEST) == f"{beginning}artifacts/{'a' * 64}/"
    file = StoredFile(path="graphs/decode.so", size=1, sha256="b" * 64)
    assert store.file_key("p/", file) == f"p/{'b' * 64}/graphs/decode.so"
    assert store.uri("p/") == "s3://b/p/"


@pytest.mark.parametrize(("done", "total", "percent"), [(0, 0, 0), (1, 3, 33), (3, 3, 100), (4, 3, 100), (5, 0, 0)])
def test_percent_of_a_stage(done: int, total: int, percent: int) -> None:
    assert Progress(stage=Stage.FETCHING, done=done, total=total).percent == percent
