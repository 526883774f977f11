"""Entry point of the inspect container: `python -m neuron_runtime.inspect`.

Reads its InspectSpec from the environment, looks at the source or the artifact that it names, and ends with what it
found in its termination message. It moves metadata alone, and imports no engine.
"""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from neuron_runtime.container import read_spec, run_as_container, variable
from neuron_runtime.contract.inspection import (
    FACTS_LIMIT,
    ArtifactFacts,
    CompiledArtifact,
    HuggingFaceRevision,
    InspectSpec,
    SourceFacts,
    WeightFormat,
)
from neuron_runtime.contract.launch import INSPECT_SPEC_VARIABLE, WORK_DIR_VARIABLE
from neuron_runtime.contract.model_config import planning_config
from neuron_runtime.contract.origin import HuggingFaceOrigin, Origin
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode, TerminationMessage
from neuron_runtime.contract.source import SourceFile, is_pickle, is_weights, source_digest, taken_files
from neuron_runtime.sources import Source, open_source
from neuron_runtime.sources.hub_client import Patience
from neuron_runtime.store import open_store
from neuron_runtime.store.files import ByteCount

_CONFIG = "config.json"
_LARGEST_CONFIG = 1024 * 1024
# The Job that does this is cheap to start again.
_PAUSE = 30.0
_PATIENCE = 60.0


def run(environment: Mapping[str, str]) -> TerminationMessage:
    """Look at what the environment asks for. Raises ContainerFailure."""
    spec = read_spec(environment, INSPECT_SPEC_VARIABLE, InspectSpec)
    work_dir = Path(variable(environment, WORK_DIR_VARIABLE))
    try:
        message = _look(spec, environment, work_dir)
    except ValidationError as error:
        # Sizes that no file has, and the like: whoever wrote them does not get into the cluster with it.
        first = error.errors()[0]
        finding = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ContainerFailure(
            FailureCode.UNSUPPORTED_MODEL, f"what was found cannot be told ({error.title}, {finding})"
        ) from error
    size = len(message.to_json().encode())
    if size > FACTS_LIMIT:
        raise ContainerFailure(
            FailureCode.ARTIFACT_INCOMPATIBLE, f"what there is to say takes {size} bytes, more than {FACTS_LIMIT}"
        )
    return message


def _look(spec: InspectSpec, environment: Mapping[str, str], work_dir: Path) -> TerminationMessage:
    if isinstance(spec.target, CompiledArtifact):
        return TerminationMessage(artifact=_artifact_facts(spec.target, work_dir))
    return TerminationMessage(source=_source_facts(spec, environment, work_dir))


def _source_facts(spec: InspectSpec, environment: Mapping[str, str], work_dir: Path) -> SourceFacts:
    assert not isinstance(spec.target, CompiledArtifact)  # noqa: S101 - the caller's case
    patience = Patience(_PAUSE, _PATIENCE)
    with closing(open_source(spec.target, spec.token, environment, work_dir / "hugging-face", patience)) as source:
        files = taken_files(source.files(), allow_pickle=spec.allow_pickle)
        weights = [file.path for file in files if is_weights(file.path)]
        _refuse_incomplete(source, files, allow_pickle=spec.allow_pickle)
        return SourceFacts(
            origin=_pinned(spec, source),
            digest=source_digest(files, allow_pickle=spec.allow_pickle),
            size_bytes=sum(file.size for file in files),
            weights=WeightFormat.PICKLE if is_pickle(weights[0]) else WeightFormat.SAFETENSORS,
            config=planning_config(_config(source, files, work_dir)),
        )


def _pinned(spec: InspectSpec, source: Source) -> Origin:
    target = spec.target
    assert not isinstance(target, CompiledArtifact)  # noqa: S101 - the caller's case
    if isinstance(target, HuggingFaceRevision):
        return HuggingFaceOrigin(repo=target.repo, commit=source.commit, endpoint=target.endpoint)
    return target


def _config(source: Source, files: tuple[SourceFile, ...], work_dir: Path) -> Mapping[str, Any]:
    """The source's `config.json`."""
    found = next(file for file in files if file.path == _CONFIG)
    if found.size > _LARGEST_CONFIG:
        raise _unsupported(source, f"has a {_CONFIG} of {found.size} bytes; {_LARGEST_CONFIG} is the most")
    folder = work_dir / "source"
    folder.mkdir(parents=True, exist_ok=True)
    source.bring(found, folder / _CONFIG, ByteCount(0, _silent))
    config = _parse(folder / _CONFIG)
    if config is None:
        raise _unsupported(source, f"has a {_CONFIG} that is no JSON object")
    return config


def _artifact_facts(target: CompiledArtifact, work_dir: Path) -> ArtifactFacts:
    """Facts of an artifact. Raises ContainerFailure: ARTIFACT_MISSING, ARTIFACT_DAMAGED for one whose manifest has
    another digest than was asked for, SOURCE_MISSING, SOURCE_DAMAGED, or the store's codes."""
    with closing(open_store(target.store)) as store:
        manifest = store.read_artifact_manifest(target.digest)
        if manifest is None:
            uri = target.store.uri(target.store.artifact_prefix(target.digest))
            raise ContainerFailure(
                FailureCode.ARTIFACT_MISSING,
                f"there is no artifact at {uri}; check spec.model.compiledArtifact.uri and digest",
            )
        folder = work_dir / "source"
        source = store.fetch_source(
            manifest.request.source_digest, folder, _silent, wanted=lambda path: path == _CONFIG
        )
    return ArtifactFacts(
        request=manifest.request,
        size_bytes=manifest.size_bytes,
        created_at=manifest.created_at,
        source_commit=_short(source.commit),
        source_location=_short(source.repo),
        source_size_bytes=sum(file.size for file in source.files),
        config=planning_config(_parse(folder / _CONFIG) or {}),
    )


def _parse(path: Path) -> Mapping[str, Any] | None:
    """A JSON object; None for a file that holds none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _refuse_incomplete(source: Source, files: tuple[SourceFile, ...], *, allow_pickle: bool) -> None:
    """Raises ContainerFailure: SOURCE_NOT_FOUND where there is nothing, SOURCE_INCOMPLETE for a part of a model."""
    if not files:
        raise ContainerFailure(
            FailureCode.SOURCE_NOT_FOUND, f"{source.name} has no file of a model at its top level; check what names it"
        )
    missing = list[str]()
    if not any(file.path == _CONFIG for file in files):
        missing.append(f"no {_CONFIG}")
    if not any(is_weights(file.path) for file in files):
        pickles = (
            "no weights, neither *.safetensors nor pytorch_model.bin or its shards"
            if allow_pickle
            else "no *.safetensors (pytorch_model*.bin is read with spec.model.allowPickle alone)"
        )
        missing.append(pickles)
    if missing:
        raise ContainerFailure(
            FailureCode.SOURCE_INCOMPLETE, f"{source.name} has {' and '.join(missing)} at its top level"
        )


def _unsupported(source: Source, finding: str) -> ContainerFailure:
    return ContainerFailure(FailureCode.UNSUPPORTED_MODEL, f"{source.name} {finding}")


def _short(text: str) -> str:
    """Somebody else's text, as far as it may be told again."""
    return "".join(character for character in text[:256] if character.isprintable())


def _silent(_done: int, _total: int) -> None:
    """Files so small that nobody has to be told."""


def main() -> NoReturn:
    """Run as the container's process, and end it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run_as_container(lambda: run(os.environ), os.environ)


if __name__ == "__main__":
    main()
