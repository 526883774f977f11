"""Sources on a claim: what lies in the folder is read, and nothing leads out of it."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from neuron_runtime.contract.origin import VolumeOrigin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceFile, SourceManifest, source_digest
from neuron_runtime.sources import copy_snapshot
from neuron_runtime.sources.volume import VolumeSource


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    """A claim with a model in a folder, and a secret beside it."""
    folder = tmp_path / "claim" / "models" / "llama"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w" * 3_000_000)
    (folder / "README.md").write_text("about")
    (folder / "old.json").mkdir()
    (tmp_path / "claim" / "secret.json").write_text("secret")
    return tmp_path / "claim"


def _source(claim: Path, path: str = "models/llama") -> VolumeSource:
    return VolumeSource(VolumeOrigin(claim_name="weights", path=path), claim)


def _files(claim: Path, path: str = "models/llama") -> tuple[SourceFile, ...]:
    return _source(claim, path).files()


def _silent(_done: int, _total: int) -> None:
    """Nobody looks."""


def _copy(claim: Path, digest: str, folder: Path, check: Callable[[], None] = lambda: None) -> SourceManifest:
    origin = VolumeOrigin(claim_name="weights", path="models/llama")
    return copy_snapshot(VolumeSource(origin, claim), origin, digest, folder, _silent, check)


def _failure(claim: Path, path: str = "models/llama") -> ContainerFailure:
    with pytest.raises(ContainerFailure) as raised:
        _files(claim, path)
    return raised.value


def test_files_are_named_by_their_hashes_and_copied(claim: Path, tmp_path: Path) -> None:
    files = _files(claim)
    assert {file.path: file.content_id for file in files} == {
        path: f"sha256:{hashlib.sha256((claim / 'models' / 'llama' / path).read_bytes()).hexdigest()}"
        for path in ("config.json", "model.safetensors", "1_Pooling/config.json")
    }
    manifest = _copy(claim, source_digest(files), tmp_path / "source")
    assert [file.path for file in manifest.files] == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert (tmp_path / "source" / "model.safetensors").read_bytes() == b"w" * 3_000_000
    assert manifest.repo == "pvc://weights/models/llama"
    assert not list((tmp_path / "source").glob(".*"))


@pytest.mark.parametrize("path", ["models/llama/", "./models/llama", "models//llama"])
def test_a_folder_is_the_same_however_it_is_written(claim: Path, path: str) -> None:
    assert _files(claim, path) == _files(claim)


def test_the_claim_itself_is_a_folder(claim: Path) -> None:
    assert [file.path for file in _files(claim, "")] == ["secret.json"]


def test_a_file_that_changed_since_it_was_inspected(claim: Path, tmp_path: Path) -> None:
    digest = source_digest(_files(claim))
    (claim / "models" / "llama" / "model.safetensors").write_bytes(b"W" * 3_000_000)
    with pytest.raises(ContainerFailure) as raised:
        _copy(claim, digest, tmp_path / "source")
    assert raised.value.code is FailureCode.SOURCE_CHANGED


@pytest.mark.parametrize("change", [b"W" * 3_000_000, b"w" * 3_000_001, b"w"], ids=["other", "longer", "shorter"])
def test_a_file_that_changes_while_it_is_copied(claim: Path, tmp_path: Path, change: bytes) -> None:
    weights = claim / "models" / "llama" / "model.safetensors"
    with pytest.raises(ContainerFailure) as raised:
        # Between the small files and the weights.
        _copy(claim, source_digest(_files(claim)), tmp_path / "source", lambda: weights.write_bytes(change) and None)
    assert raised.value.code is FailureCode.SOURCE_CHANGED
    assert "model.safetensors" in raised.value.message
    assert "model.safetensors" not in {path.name for path in (tmp_path / "source").iterdir()}


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("../../secret.json", "leaves the folder"),
        ("/etc/hostname", "leaves the folder"),
        ("nowhere.json", "link to nowhere"),
        ("tokenizer.json", "link in a circle"),
        ("/dev/null", "leaves the folder"),
    ],
)
def test_links_that_lead_away_are_refused(claim: Path, target: str, words: str) -> None:
    (claim / "models" / "llama" / "tokenizer.json").symlink_to(target)
    failure = _failure(claim)
    assert failure.code is FailureCode.SOURCE_UNSAFE
    assert words in failure.message and "tokenizer.json" in failure.message and "weights" in failure.message


def test_a_folder_within_that_leads_away_is_refused(claim: Path) -> None:
    folder = claim / "models" / "llama"
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "1_Pooling").rmdir()
    (claim / "config.json").write_text("{}")
    (folder / "1_Pooling").symlink_to(claim)
    assert _failure(claim).code is FailureCode.SOURCE_UNSAFE


def test_a_link_within_the_folder_is_followed(claim: Path) -> None:
    folder = claim / "models" / "llama"
    (folder / "tokenizer.json").symlink_to("blob-of-the-tokenizer")
    (folder / "blob-of-the-tokenizer").write_text("[]")
    assert "tokenizer.json" in {file.path for file in _files(claim)}


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_regular_file_is_refused_without_waiting_for_it(
    claim: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(claim / "models" / "llama")
    if kind == "pipe":
        os.mkfifo("tokenizer.json")
        failure = _failure(claim)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            # By its name alone: the path of a socket is short.
            listener.bind("tokenizer.json")
            failure = _failure(claim)
    assert failure.code is FailureCode.SOURCE_UNSAFE
    assert "no regular file" in failure.message


@pytest.mark.parametrize("path", ["/models/llama", "../claim/models/llama", "models/../../claim", "..", "a\\..\\b/.."])
def test_folders_outside_of_the_claim_are_refused(claim: Path, path: str) -> None:
    failure = _failure(claim, path)
    assert failure.code is FailureCode.SOURCE_UNSAFE
    assert "spec.model.persistentVolumeClaim.path" in failure.message


def test_a_folder_that_is_a_link_out_of_the_claim(claim: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (claim / "models" / "link").symlink_to(tmp_path / "elsewhere")
    assert _failure(claim, "models/link").code is FailureCode.SOURCE_UNSAFE


def test_a_folder_that_is_a_link_within_the_claim(claim: Path) -> None:
    (claim / "current").symlink_to("models/llama")
    assert _files(claim, "current") == _files(claim)


@pytest.mark.parametrize("path", ["models/none", "models/llama/config.json", "models/llama/config.json/x"])
def test_what_is_no_folder(claim: Path, path: str) -> None:
    failure = _failure(claim, path)
    assert failure.code is FailureCode.SOURCE_NOT_FOUND
    assert "spec.model.persistentVolumeClaim.path" in failure.message


@pytest.mark.parametrize("name", ["a\\b.json", "a\nb.json"])
def test_names_that_are_none_are_refused(claim: Path, name: str) -> None:
    (claim / "models" / "llama" / name).write_text("{}")
    assert _failure(claim).code is FailureCode.SOURCE_UNSAFE


def test_a_name_of_other_bytes_than_utf_8_is_refused(claim: Path) -> None:
    (claim / "models" / "llama" / os.fsdecode(b"\xff.json")).write_text("{}")
    assert _failure(claim).code is FailureCode.SOURCE_UNSAFE
