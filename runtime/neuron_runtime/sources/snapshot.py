"""Copies a source into a folder as the snapshot that goes into the store. The same for every kind of source."""

from collections.abc import Callable, Iterable
from pathlib import Path

from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.origin import Origin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import (
    SourceFile,
    SourceManifest,
    is_pickle,
    is_weights,
    source_digest,
    taken_files,
)
from neuron_runtime.store.files import ByteCount, Report, contained, describe_files

from .base import Source


def copy_snapshot(
    source: Source,
    origin: Origin,
    expected: Digest,
    folder: Path,
    report: Report,
    check: Callable[[], None],
    *,
    allow_pickle: bool = False,
) -> SourceManifest:
    """Bring the files that belong to the snapshot into `folder`; the manifest to commit it with.

    `check` is called once all files but the weights are there; what it raises ends the copy. Pickled weights are
    converted to safetensors.

    Raises ContainerFailure: what the source raises, or SOURCE_CHANGED when its files are not those that `expected` was
    made of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = taken_files(source.files(), allow_pickle=allow_pickle)
    found = source_digest(files, allow_pickle=allow_pickle)
    if found != expected:
        raise ContainerFailure(
            FailureCode.SOURCE_CHANGED,
            f"{source.name} has the source digest {found}, but {expected} was resolved: files were changed, added or "
            "removed since, or the origin answers differently than before",
        )
    count = ByteCount(sum(file.size for file in files), report)
    weights = [file for file in files if is_weights(file.path)]
    _bring(source, (file for file in files if not is_weights(file.path)), folder, count)
    check()
    _bring(source, weights, folder, count)
    paths = {file.path for file in files}
    if any(is_pickle(file.path) for file in weights):
        # Here, for it imports torch.
        from .pickles import convert_pickles

        paths = convert_pickles(folder, paths)
    return SourceManifest(digest=found, repo=origin.location, commit=origin.commit, files=describe_files(folder, paths))


def _bring(source: Source, files: Iterable[SourceFile], folder: Path, count: ByteCount) -> None:
    for file in files:
        target = contained(folder, file.path, FailureCode.SOURCE_UNSAFE)
        target.parent.mkdir(exist_ok=True)
        source.bring(file, target, count)
