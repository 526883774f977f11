"""Which files of a repository are taken, and what digest they have together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_runtime.contract.source import SourceFile, is_taken, source_digest, taken_files


@pytest.mark.parametrize(
    "path",
    [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "tokenizer.model",
        "merges.txt",
        "vocab.txt",
    ],
)
def test_weights_tokenizer_and_configuration_are_taken(path: str) -> None:
    assert is_taken(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "README.md",
        "notes.txt",
        "pytorch_model.bin",
        "model.pt",
        ".hidden.json",
        ".json",
        "onnx/config.json",
        "original/model.safetensors",
        "/config.json",
        "../config.json",
        "a/../config.json",
    ],
)
def test_nothing_else_is_taken(path: str) -> None:
    assert not is_taken(path)


def _file(path: str) -> SourceFile:
    return SourceFile(path=path, size=1, content_id="git-blob:1")


@pytest.mark.parametrize(
    ("others", "allow_pickle", "taken"),
    [
        ((), True, ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin"]),
        ((), False, []),
        (("model.safetensors",), True, ["model.safetensors"]),
        (("onnx/model.safetensors",), True, ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin"]),
    ],
)
def test_pickles_are_taken_only_where_allowed_and_without_safetensors(
    others: tuple[str, ...], allow_pickle: bool, taken: list[str]
) -> None:
    pickles = ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"]
    never = [
        "training_args.bin",
        "optimizer.bin",
        "old/pytorch_model.bin",
        "../pytorch_model.bin",
        "model.zip",
        "w.tar",
    ]
    files = [_file(path) for path in (*pickles, *never, *others)]
    assert [file.path for file in taken_files(files, allow_pickle=allow_pickle)] == taken


def test_allowing_pickles_changes_nothing_for_safetensors() -> None:
    files = [_file("model.safetensors"), _file("pytorch_model.bin"), _file("config.json")]
    assert source_digest(files, allow_pickle=True) == source_digest(files)
    assert source_digest(files[1:], allow_pickle=True) != source_digest(files[1:])


_FILES = st.lists(
    st.builds(
        SourceFile,
        path=st.sampled_from(["config.json", "a.safetensors", "b.safetensors", "README.md", "onnx/a.json"]),
        size=st.integers(0, 2**40),
        content_id=st.sampled_from(["git-blob:1", "lfs-sha256:2"]),
    ),
    unique_by=lambda file: file.path,
)


@given(_FILES, st.randoms())
def test_the_order_of_a_listing_and_files_that_are_not_taken_are_not_in_the_digest(
    files: list[SourceFile], random: object
) -> None:
    shuffled = sorted(files, key=lambda file: hash((random, file.path)))
    assert source_digest(shuffled) == source_digest(files) == source_digest(taken_files(files))


@given(_FILES.filter(taken_files), st.sampled_from([{"size": 2**41}, {"content_id": "git-blob:3"}]))
def test_size_and_content_of_every_taken_file_are_in_the_digest(
    files: list[SourceFile], change: dict[str, object]
) -> None:
    first = taken_files(files)[0]
    changed = [file.model_copy(update=change) if file is first else file for file in files]
    assert source_digest(changed) != source_digest(files)


def test_a_source_keeps_its_digest() -> None:
    """Operator and compile container of different releases have to agree."""
    files = [
        SourceFile(path="model.safetensors", size=10, content_id=f"lfs-sha256:{'1' * 64}"),
        SourceFile(path="config.json", size=2, content_id=f"git-blob:{'2' * 40}"),
    ]
    assert source_digest(files) == "sha256:8bfc2622367fbf6d293960303cacff0851a821cd3705f068a4474d028fe863d0"
