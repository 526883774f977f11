"""Inspection's documents, and what planning needs of a config.json: small whatever is in it, and enough to plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neuron_operator.planning.encoder_facts import encoder_facts
from neuron_operator.planning.model_facts import model_facts
from neuron_operator.planning.refusal import UnsupportedModel
from neuron_runtime.contract.inspection import (
    FACTS_LIMIT,
    CompiledArtifact,
    HuggingFaceRevision,
    InspectSpec,
    SourceFacts,
    WeightFormat,
)
from neuron_runtime.contract.launch import CompileSpec
from neuron_runtime.contract.model_config import COUNTS, PLANNING_FIELDS, planning_config
from neuron_runtime.contract.origin import HuggingFaceOrigin, Origin, S3Origin, SecretKey, VolumeOrigin
from neuron_runtime.contract.outcome import TerminationMessage
from neuron_runtime.contract.store import StoreLocation
from support.hub import CONFIG, ENCODER_CONFIG

_DIGEST = f"sha256:{'a' * 64}"
_RECORDED = {
    "contractVersion": 1,
    "request": {
        "engine": "CPU",
        "toolchain": {"torch": "2.13.0"},
        "sourceDigest": _DIGEST,
        "shapes": {
            "maxModelLength": 64,
            "maxBatchSize": 1,
            "contextLengths": [8],
            "tokenGenerationBatches": [1],
        },
        "dtype": "Float32",
        "target": "CPU",
    },
    "origin": {"kind": "HuggingFace", "repo": "team/tiny", "commit": "c" * 40},
    "store": {"bucket": "b", "prefix": "", "domain": "shared"},
}


class _Watched(Mapping[str, Any]):
    """A configuration that notes what is read of it."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields
        self.read = set[str]()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("planning reads fields by name")

    def __len__(self) -> int:
        return len(self._fields)


def test_the_fields_of_the_contract_are_those_that_planning_reads() -> None:
    model, encoder = _Watched(CONFIG), _Watched(ENCODER_CONFIG)
    model_facts(model)
    encoder_facts(encoder)
    assert model.read | encoder.read == set(PLANNING_FIELDS)


def _planned(facts_of: Callable[[Mapping[str, Any]], object], config: Mapping[str, Any]) -> object:
    try:
        return facts_of(config)
    except UnsupportedModel:
        return "refused"


_LARGEST = 2**53
_ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers(-_LARGEST, _LARGEST)
    | st.floats()
    | st.text(max_size=60)
    | st.sampled_from(([], [[]], ["LlamaForCausalLM", "BertModel"], ["BertModel"], ["x" * 99], {}, {"a": [1]}))
)
_CONFIGS = st.builds(
    lambda base, changes: base | changes,
    st.sampled_from([CONFIG, ENCODER_CONFIG]),
    st.dictionaries(st.sampled_from([*PLANNING_FIELDS, "more"]), _ANYTHING | st.integers(1, 10**6), max_size=5),
)


@given(_CONFIGS)
def test_planning_comes_to_the_same_from_the_small_form(config: dict[str, Any]) -> None:
    small = json.loads(json.dumps(planning_config(config)))
    for facts_of in (model_facts, encoder_facts):
        assert _planned(facts_of, small) == _planned(facts_of, config)


def _message(config: Mapping[str, Any], origin: Origin) -> TerminationMessage:
    facts = SourceFacts(
        origin=origin,
        digest=_DIGEST,
        size_bytes=2**62,
        weights=WeightFormat.SAFETENSORS,
        config=planning_config(config),
    )
    return TerminationMessage(source=facts)


_LONGEST_ORIGINS: list[Origin] = [
    HuggingFaceOrigin(repo="r" * 512, commit="c" * 512, endpoint="https://" + "e" * 504),
    S3Origin(bucket="b" * 63, prefix='"' * 1024, region="r" * 32),
    VolumeOrigin(claim_name="c" * 253, path="p" * 1024),
]


@pytest.mark.parametrize("origin", _LONGEST_ORIGINS, ids=lambda origin: origin.kind)
@pytest.mark.parametrize(
    "value",
    [
        "😀" * 100_000,
        '\\"\x00' * 10_000,
        10**4000,
        -(10**5000),
        1e308,
        float("nan"),
        ["x" * 9999] * 99,
        {"a": {"b": 1}},
    ],
    ids=["emoji", "escapes", "digits", "negative", "float", "nan", "list", "object"],
)
def test_an_answer_is_short_whatever_a_configuration_holds(value: object, origin: Origin) -> None:
    hostile = dict.fromkeys(PLANNING_FIELDS, value) | {"architectures": [value], "extra": value}
    message = _message(hostile, origin)
    encoded = message.encode()
    assert len(encoded.encode()) <= FACTS_LIMIT
    assert TerminationMessage.decode(encoded) == message


@given(st.dictionaries(st.sampled_from(PLANNING_FIELDS), _ANYTHING))
def test_a_configuration_has_a_small_form_of_ascii(config: dict[str, Any]) -> None:
    encoded = json.dumps(planning_config(config), ensure_ascii=False)
    assert encoded.isascii()
    assert len(encoded) <= 1536


def test_numbers_are_kept_and_what_is_none_is_shown_short() -> None:
    config = {"hidden_size": 2**53, "vocab_size": "many" * 99, "head_dim": None, "tie_word_embeddings": "yes"}
    found = planning_config(config)
    assert found["hidden_size"] == 2**53
    assert found["vocab_size"].startswith("manymany") and len(found["vocab_size"]) <= 48
    assert "head_dim" not in found
    assert found["tie_word_embeddings"] is True
    assert set(COUNTS) < set(PLANNING_FIELDS)


def test_facts_that_are_too_long_are_no_endless_loop() -> None:
    facts = _message(CONFIG, VolumeOrigin(claim_name="c")).source
    assert facts is not None
    long = facts.model_copy(update={"config": {"x": "y" * 5000}})
    with pytest.raises(ValueError, match="do not fit"):
        TerminationMessage(source=long, message="m" * 100).encode()


def test_a_compile_spec_of_before_is_read() -> None:
    spec = CompileSpec.model_validate(_RECORDED)
    assert spec.origin == HuggingFaceOrigin(repo="team/tiny", commit="c" * 40)
    assert spec.token is None and not spec.allow_pickle
    assert spec.origin.to_document() == _RECORDED["origin"]


@pytest.mark.parametrize("origin", _LONGEST_ORIGINS, ids=lambda origin: origin.kind)
def test_an_origin_is_told_by_its_kind(origin: Origin) -> None:
    read = CompileSpec.model_validate(_RECORDED | {"origin": origin.to_document()})
    assert read.origin == origin


@pytest.mark.parametrize(
    "target",
    [
        HuggingFaceRevision(repo="a/b", revision="main"),
        S3Origin(bucket="b"),
        VolumeOrigin(claim_name="c", path="models/llama"),
        CompiledArtifact(store=StoreLocation(bucket="b", domain="shared"), digest=_DIGEST),
    ],
    ids=lambda target: target.kind,
)
def test_what_is_to_be_inspected_is_told_by_its_kind(target: Any) -> None:
    spec = InspectSpec(target=target, token=SecretKey(secret="hf", key="token"), allow_pickle=True)
    assert InspectSpec.model_validate_json(spec.to_json()) == spec


@pytest.mark.parametrize("path", ["a\nb", "a\x00", "x" * 1025])
def test_folders_that_cannot_be_told_again_are_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        S3Origin(bucket="b", prefix=path)


@pytest.mark.parametrize(("prefix", "domain"), [("", "shared"), ("", "ns/ml"), ("team/a", "ns/ml"), ("ns/x", "shared")])
def test_the_address_of_an_artifact_names_its_store(prefix: str, domain: str) -> None:
    store = StoreLocation(bucket="b", prefix=prefix, domain=domain, region="eu-west-1")
    uri = store.uri(store.artifact_prefix(_DIGEST))
    assert StoreLocation.of_artifact(uri, "eu-west-1") == (store, _DIGEST)
    assert StoreLocation.of_artifact(uri.rstrip("/"), "eu-west-1") == (store, _DIGEST)


@pytest.mark.parametrize(
    "uri",
    ["", "s3://b/artifacts/x", f"s3://b/elsewhere/artifacts/{'a' * 64}/", f"https://b/shared/artifacts/{'a' * 64}"],
)
def test_another_address_names_none(uri: str) -> None:
    assert StoreLocation.of_artifact(uri) is None
