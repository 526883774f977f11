"""What a manifest in the store may say: it reaches a status and a server, whoever wrote it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.request import CompileRequest

_SHAPES = {"maxModelLength": 512, "maxBatchSize": 4, "contextLengths": [64], "tokenGenerationBatches": [1]}
_REQUEST = {
    "engine": "CPU",
    "toolchain": {"torch": "2", "cxx": "g++-12", "march": "x86-64-v3"},
    "sourceDigest": f"sha256:{'5' * 64}",
    "shapes": _SHAPES,
    "dtype": "Float32",
    "target": "CPU",
}
_FILE = {"path": "decode.so", "size": 7, "sha256": "0" * 64}
_GRAPH = {
    "name": "decode-1x512",
    "kind": "decode",
    "batchSize": 1,
    "tokens": 1,
    "contextLength": 512,
    "path": "decode.so",
}


def _manifest(**changes: Any) -> dict[str, Any]:
    return {
        "digest": f"sha256:{'1' * 64}",
        "request": _REQUEST,
        "sourceCommit": "c" * 40,
        "graphs": [_GRAPH],
        "files": [_FILE],
        "tools": {},
        "timings": {},
        "createdAt": "2026-02-28T23:59:59Z",
        **changes,
    }


def test_a_manifest_is_read_as_it_was_written() -> None:
    manifest = ArtifactManifest.model_validate(_manifest())
    assert ArtifactManifest.model_validate_json(manifest.to_json()) == manifest
    assert manifest.size_bytes == 7


@pytest.mark.parametrize(
    "change",
    [
        {"graphs": [_GRAPH | {"path": "/elsewhere/other.so"}]},
        {"graphs": [_GRAPH, _GRAPH | {"path": "encode.so"}]},
        {"files": []},
        {"files": [_FILE | {"size": -1}]},
        {"files": [_FILE | {"size": 2**63}]},
        {"files": [_FILE | {"size": 2**62}, _FILE | {"path": "b", "size": 2**62}]},
        {"files": [_FILE | {"sha256": "0" * 63}]},
        {"createdAt": "yesterday"},
        {"createdAt": "2026-02-29T00:00:00Z"},
        {"createdAt": "2026-02-28T00:00:00"},
        {"createdAt": "2026-2-28T00:00:00Z"},
    ],
)
def test_a_manifest_that_names_unverified_code_or_would_not_fit_a_status_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ArtifactManifest.model_validate(_manifest(**change))


def test_the_digest_of_a_request_is_what_it_always_was() -> None:
    """Whoever changes it compiles everything again: that must be meant."""
    request = CompileRequest.model_validate(_REQUEST)
    assert request.digest == "sha256:b046884f40b66b408904a805f0ccfe530980194643a973ffe38ddeb1e614b008"
    assert CompileRequest.model_validate_json(request.to_json()).digest == request.digest
    wider = CompileRequest.model_validate({**_REQUEST, "shapes": {**_SHAPES, "tokenGenerationBatches": [1, 4]}})
    assert wider.digest != request.digest
