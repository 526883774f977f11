"""The way to a hub that a platform prescribes: a proxy, and certificates of its own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuron_localcluster.certificates import Certificates, ensure_certificates
from neuron_runtime.contract.origin import HuggingFaceOrigin
from neuron_runtime.contract.outcome import FailureCode
from neuron_runtime.contract.source import source_digest
from support.scripted_hub import COMMIT, DELIVERY_HOST, Refusal, ScriptedHub, scripted_hub
from support.source_process import copy_source

_FILES = {"config.json": b"{}", "model.safetensors": 300_000 * b"w"}


def _copy(
    hub: ScriptedHub, endpoint: str, folder: Path, variables: dict[str, str], **options: object
) -> dict[str, Any]:
    origin = HuggingFaceOrigin(repo="team/model", commit=COMMIT, endpoint=endpoint).to_document()
    return copy_source(origin, source_digest(hub.source_files()), folder / "source", variables, **options)


@pytest.mark.parametrize("spelling", ["HTTP_PROXY", "http_proxy"])
def test_a_hub_behind_a_proxy(tmp_path: Path, spelling: str) -> None:
    with scripted_hub(_FILES) as hub:
        # A name that nobody but the proxy could resolve.
        answer = _copy(hub, "http://hub.invalid", tmp_path, {spelling: hub.endpoint, "NO_PROXY": DELIVERY_HOST})
    assert "manifest" in answer
    assert {request.host for request in hub.requests} == {"hub.invalid", DELIVERY_HOST}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"), ("127.0.0.1", DELIVERY_HOST))


@pytest.fixture
def secure_hub(certificates: Certificates) -> Iterator[ScriptedHub]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    with scripted_hub(_FILES, context) as hub:
        yield hub


def test_a_hub_with_a_certificate_of_the_platform(
    secure_hub: ScriptedHub, certificates: Certificates, tmp_path: Path
) -> None:
    answer = _copy(secure_hub, secure_hub.endpoint, tmp_path, {"SSL_CERT_FILE": str(certificates.authority)})
    assert "manifest" in answer
    assert {request.host for request in secure_hub.requests} == {"127.0.0.1", DELIVERY_HOST}


def test_a_certificate_that_nobody_vouches_for_is_refused(secure_hub: ScriptedHub, tmp_path: Path) -> None:
    answer = _copy(secure_hub, secure_hub.endpoint, tmp_path, {})
    assert answer["code"] == FailureCode.SOURCE_UNREACHABLE.value
    assert "certificate" in answer["message"].lower()
    assert not secure_hub.requests


@pytest.mark.parametrize(
    ("with_token", "code", "words"),
    [
        (True, FailureCode.SOURCE_ACCESS_DENIED, "does not accept the token in key token of Secret hf"),
        (False, FailureCode.SOURCE_NOT_FOUND, "or is private"),
    ],
)
def test_a_401_of_a_hub_that_says_no_more(
    secure_hub: ScriptedHub,
    certificates: Certificates,
    tmp_path: Path,
    with_token: bool,
    code: FailureCode,
    words: str,
) -> None:
    """The library takes it for a repository that does not exist, where the hub is one of https."""
    secure_hub.refuse_always = Refusal(401, "", "Invalid username or password.")
    (tmp_path / "token").write_text("hf_expired")
    variables = {"SSL_CERT_FILE": str(certificates.authority), "HF_TOKEN_PATH": str(tmp_path / "token")}
    answer = _copy(secure_hub, secure_hub.endpoint, tmp_path, variables, token=with_token)
    assert answer["code"] == code.value
    assert words in answer["message"]
