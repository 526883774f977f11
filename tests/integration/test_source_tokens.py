"""Hubs that ask for a token, refuse, or limit: what is sent where, what is said, and how long is waited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from neuron_runtime.contract.origin import HuggingFaceOrigin, SecretKey
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import source_digest
from neuron_runtime.sources import copy_snapshot, open_source
from neuron_runtime.sources.hub_client import Patience
from support.addresses import free_port
from support.scripted_hub import COMMIT, DELIVERY_HOST, Refusal, ScriptedHub, scripted_hub
from support.source_process import copy_source

_TOKEN = "hf_5ecre7t0ken"
_GATED = "Access to model team/model is restricted"


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    files = {"config.json": b"{}", "model.safetensors": 300_000 * b"w", "README.md": b"about"}
    with scripted_hub(files) as hub:
        yield hub


@pytest.fixture
def token_path(tmp_path: Path) -> Path:
    path = tmp_path / "secret" / "token"
    path.parent.mkdir()
    path.write_text(f"{_TOKEN}\n")
    return path


def _copy_in_process(hub: ScriptedHub, folder: Path, token_path: Path | None, **variables: str) -> dict[str, Any]:
    """In a process of its own, whose log can be read."""
    origin = HuggingFaceOrigin(repo="team/model", commit=COMMIT, endpoint=f"{hub.endpoint}/")
    # Neither a variable's endpoint nor a variable's token is what the document asks for.
    given = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_TOKEN": "hf_another", **variables}
    if token_path is not None:
        given["HF_TOKEN_PATH"] = str(token_path)
    digest = source_digest(hub.source_files())
    return copy_source(origin.to_document(), digest, folder / "source", given, token=token_path is not None)


@dataclass(frozen=True)
class _Copied:
    """What became of a source: a manifest, or a failure."""

    waits: list[float]
    paths: list[str] = field(default_factory=list)
    code: FailureCode | None = None
    message: str = ""
    after: int | None = None


@pytest.fixture
def copy(hub: ScriptedHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., _Copied]]:
    """Copies the hub's source, here: its address stands in the document, so the library need not be imported anew."""
    for name in ("HF_HOME", "HF_XET_CACHE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_DEBUG"):
        # To be put back afterwards.
        monkeypatch.setenv(name, str(tmp_path / "hugging-face"))
    origin = HuggingFaceOrigin(repo="team/model", commit=COMMIT, endpoint=hub.endpoint)
    digest = source_digest(hub.source_files())

    def run(token_path: Path | None = None) -> _Copied:
        waits = list[float]()
        secret = SecretKey(secret="hf", key="token") if token_path is not None else None
        variables = {"HF_TOKEN_PATH": str(token_path)}
        try:
            source = open_source(origin, secret, variables, tmp_path / "cache", Patience(60, 600, waits.append))
            with closing(source):
                manifest = copy_snapshot(source, origin, digest, tmp_path / "source", _silent, lambda: None)
        except ContainerFailure as failure:
            return _Copied(waits, [], failure.code, failure.message, failure.retry_after_seconds)
        return _Copied(waits, [file.path for file in manifest.files])

    yield run
    close_session()


def _silent(_done: int, _total: int) -> None:
    """Nobody looks."""


Copy = Callable[..., _Copied]


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: ScriptedHub, token_path: Path, tmp_path: Path) -> None:
    hub.token = _TOKEN
    answer = _copy_in_process(hub, tmp_path, token_path)
    assert [file["path"] for file in answer["manifest"]["files"]] == ["config.json", "model.safetensors"]
    delivered = [request for request in hub.requests if request.host == DELIVERY_HOST]
    asked = [request for request in hub.requests if request.host != DELIVERY_HOST]
    assert delivered and {request.authorization for request in delivered} == {None}
    assert asked and {request.authorization for request in asked} == {f"Bearer {_TOKEN}"}
    assert _TOKEN not in str(answer)
    assert sorted(path.name for path in (tmp_path / "source").iterdir()) == ["config.json", "model.safetensors"]


def test_without_one_asked_for_no_token_is_sent(hub: ScriptedHub, tmp_path: Path) -> None:
    answer = _copy_in_process(hub, tmp_path, None)
    assert "manifest" in answer
    assert {request.authorization for request in hub.requests} == {None}


_DENIED, _ABSENT = FailureCode.SOURCE_ACCESS_DENIED, FailureCode.SOURCE_NOT_FOUND
_BAD_TOKEN = "Invalid credentials in Authorization header"


@pytest.mark.parametrize(
    ("refusal", "with_token", "code", "words"),
    [
        (Refusal(401, "GatedRepo", _GATED), False, _DENIED, "gated, so it cannot be read anonymously"),
        (Refusal(403, "GatedRepo", _GATED), True, _DENIED, "was not granted access: accept its conditions"),
        (Refusal(401, "RepoNotFound"), False, _ABSENT, "or is private: check spec.model.huggingFace.repo"),
        (Refusal(404, "RepoNotFound"), True, _ABSENT, "or the token in key token of Secret hf may not read it"),
        (Refusal(401, "", _BAD_TOKEN), True, _DENIED, "does not accept the token in key token of Secret hf"),
        (Refusal(403, "", "Forbidden"), True, _DENIED, "lacks the right to read the repository's contents"),
        (Refusal(403, "", "Forbidden"), False, _DENIED, "set spec.model.huggingFace.tokenSecretRef"),
        (Refusal(404, "RevisionNotFound"), True, _ABSENT, "check spec.model.huggingFace.revision"),
    ],
)
def test_each_refusal_has_its_remedy(
    hub: ScriptedHub,
    token_path: Path,
    copy: Copy,
    refusal: Refusal,
    with_token: bool,
    code: FailureCode,
    words: str,
) -> None:
    hub.refuse_always = refusal
    answer = copy(token_path if with_token else None)
    assert answer.code is code
    assert words in answer.message
    assert hub.endpoint in answer.message
    assert not answer.waits


def test_a_gated_repository_whose_listing_is_open(hub: ScriptedHub, copy: Copy) -> None:
    hub.refuse_files = Refusal(401, "GatedRepo", _GATED)
    answer = copy()
    assert answer.code is _DENIED
    assert "spec.model.huggingFace.tokenSecretRef" in answer.message


def test_a_hub_that_tells_the_token_again_does_not_make_us_tell_it(
    hub: ScriptedHub, token_path: Path, tmp_path: Path
) -> None:
    hub.refuse_always = Refusal(500, "", f"cannot look up {_TOKEN}")
    answer = _copy_in_process(hub, tmp_path, token_path, HF_DEBUG="1")
    assert answer["code"] == FailureCode.SOURCE_UNREACHABLE.value
    assert "cannot look up (token)" in answer["message"]
    assert _TOKEN not in str(answer)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"two words", b"\xff\xfe", 9000 * b"x"])
def test_a_token_that_is_missing_is_named(
    hub: ScriptedHub, token_path: Path, copy: Copy, content: bytes | None
) -> None:
    if content is None:
        token_path.unlink()
    else:
        token_path.write_bytes(content)
    answer = copy(token_path)
    assert answer.code is FailureCode.SOURCE_TOKEN_MISSING
    for word in ("key token of Secret hf", "spec.model.huggingFace.tokenSecretRef", "kubectl create secret"):
        assert word in answer.message
    assert not hub.requests


def test_a_limited_reader_waits_for_as_long_as_it_was_told(hub: ScriptedHub, copy: Copy) -> None:
    limit = Refusal(429, headers={"Retry-After": "7"})
    ratelimit = Refusal(429, headers={"RateLimit": '"api";r=0;t=11', "Retry-After": "9"})
    hub.refusals = [limit, ratelimit]
    answer = copy()
    assert answer.paths
    assert answer.waits == [7, 11]


def test_files_are_waited_for_as_well(hub: ScriptedHub, copy: Copy) -> None:
    hub.refuse_files = Refusal(429, headers={"Retry-After": "61"})
    answer = copy()
    assert answer.code is FailureCode.SOURCE_RATE_LIMITED
    assert (answer.after, answer.waits) == (61, [])
    assert "for 61 seconds" in answer.message


@pytest.mark.parametrize(("told", "after"), [("86400", 3600), ("61", 61)])
def test_a_longer_wait_is_left_to_the_operator(hub: ScriptedHub, copy: Copy, told: str, after: int) -> None:
    hub.refuse_always = Refusal(429, headers={"Retry-After": told})
    answer = copy()
    assert answer.code is FailureCode.SOURCE_RATE_LIMITED
    assert (answer.after, answer.waits) == (after, [])
    assert f"for {told} seconds" in answer.message


def test_a_hub_that_limits_for_ever_ends_all_patience(hub: ScriptedHub, copy: Copy) -> None:
    hub.refuse_always = Refusal(429, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    answer = copy()
    assert answer.code is FailureCode.SOURCE_RATE_LIMITED
    assert answer.waits == [2, 4, 8, 16, 32]
    assert answer.after is None


@pytest.mark.parametrize(
    "listing",
    [[], {}, "hub", {"sha": COMMIT, "siblings": "many"}, {"sha": COMMIT, "siblings": [{"rfilename": 5}]}],
    ids=["list", "empty", "text", "siblings", "name"],
)
def test_what_is_no_hub(hub: ScriptedHub, copy: Copy, listing: object) -> None:
    hub.listing = listing
    answer = copy()
    assert answer.code in (FailureCode.SOURCE_UNREACHABLE, FailureCode.SOURCE_CHANGED)
    assert hub.endpoint in answer.message or COMMIT in answer.message


@pytest.mark.parametrize("name", ["a\\x.json", "a\nb.json", "\ud800.json", "x" * 256 + ".json"])
def test_names_that_are_none_are_refused(hub: ScriptedHub, copy: Copy, name: str) -> None:
    entry = {"rfilename": name, "size": 1, "blobId": 40 * "a"}
    hub.listing = {"id": "team/model", "sha": COMMIT, "siblings": [entry]}
    answer = copy()
    assert answer.code is FailureCode.SOURCE_UNSAFE


@pytest.mark.parametrize(
    "name", ["../config.json", "/etc/config.json", "a/../../config.json", "weights.zip", "w.tar.gz"]
)
def test_paths_that_lead_away_and_archives_are_not_taken(hub: ScriptedHub, copy: Copy, name: str) -> None:
    hub.files[name] = b"never"
    answer = copy()
    assert answer.paths == ["config.json", "model.safetensors"]
    assert not any(request.path.endswith(name) for request in hub.requests)
