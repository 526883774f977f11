"""Digests name content: equal content has equal digests, on every machine and in every release."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from neuron_runtime.contract.digests import Digest, canonical_json, digest_of, digest_of_bytes, hex_part, short
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Quantization, Shapes, Target

_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4))


@given(_JSON)
def test_canonical_json_is_json_of_the_same_value(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(_TEXT, _JSON, max_size=6), st.randoms())
def test_the_order_of_keys_is_not_in_a_digest(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert digest_of(dict(items)) == digest_of(value)


@given(st.dictionaries(_TEXT, _TEXT, min_size=1, max_size=4))
def test_every_value_is_in_a_digest(value: dict[str, str]) -> None:
    key = next(iter(value))
    assert digest_of(value | {key: value[key] + "!"}) != digest_of(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json([value])


def _request(**changes: Any) -> CompileRequest:
    fields: dict[str, Any] = {
        "engine": Engine.CPU,
        "toolchain": {"torch": "2.13.0", "cxx": "g++-12", "march": "x86-64-v3"},
        "source_digest": f"sha256:{'5' * 64}",
        "shapes": Shapes(max_model_length=512, max_batch_size=4, context_lengths=(64,), token_generation_batches=(1,)),
        "dtype": DType.FLOAT32,
        "target": Target.CPU,
    }
    return CompileRequest(**{**fields, **changes})


def test_a_request_keeps_its_digest() -> None:
    """If this digest has to change, every artifact in every store is compiled again: say so in the changelog."""
    assert _request().digest == "sha256:9169af514a2869e111684578b567330b89c7cd7dcfb242b45f2e154257231423"


@pytest.mark.parametrize(
    "changes",
    [
        {"toolchain": {"torch": "2.13.1", "cxx": "g++-12", "march": "x86-64-v3"}},
        {"source_digest": f"sha256:{'6' * 64}"},
        {"quantization": Quantization.INT8},
        {"tensor_parallel_size": 2},
        {"flags": ("-O1",)},
        {
            "shapes": Shapes(
                max_model_length=512, max_batch_size=4, context_lengths=(64,), token_generation_batches=(1, 4)
            )
        },
    ],
)
def test_what_changes_an_artifact_changes_the_digest(changes: dict[str, Any]) -> None:
    assert _request(**changes).digest != _request().digest


@given(_JSON)
def test_a_digest_is_what_documents_take_for_one(value: Any) -> None:
    digest = digest_of(value)
    assert TypeAdapter(Digest).validate_python(digest) == digest == digest_of_bytes(canonical_json(value))
    assert hex_part(digest).startswith(short(digest))


@pytest.mark.parametrize(
    "text", ["", "a" * 64, "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 64 + "\n"]
)
def test_other_texts_are_no_digests(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Digest).validate_python(text)
