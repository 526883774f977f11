"""Entry point of the compile Job: `python -m neuron_runtime.compile`.

Reads its CompileSpec from the environment, brings the source into the store, compiles, and commits the artifact. What
became of it stands in the termination message. Running it twice does nothing twice: what is in the store is kept.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from neuron_runtime.compile_progress import Board, progress_server
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.launch import COMPILE_SPEC_VARIABLE, WORK_DIR_VARIABLE, CompileSpec
from neuron_runtime.contract.outcome import ContainerFailure, ExitCode, FailureCode, TerminationMessage
from neuron_runtime.contract.progress import Progress, Stage
from neuron_runtime.engines import open_engine
from neuron_runtime.engines.base import Compiled, CompileProgress
from neuron_runtime.sources import fetch
from neuron_runtime.store import Store, describe_files, open_store
from neuron_runtime.termination import leave_failure, leave_message

_log = logging.getLogger("neuron_runtime.compile")


class Terminated(BaseException):
    """SIGTERM. Not an Exception: nothing on the way may take it for a failure of its own."""


def run(environment: Mapping[str, str], board: Board) -> ArtifactManifest:
    """Make sure that the artifact is in the store. Raises ContainerFailure."""
    spec = _read_spec(environment)
    work_dir = Path(environment[WORK_DIR_VARIABLE])
    store = open_store(spec.store)
    known = store.read_artifact_manifest(spec.request.digest)
    if known is not None:
        _log.info("the artifact is already in the store")
        return known
    timings: dict[str, float] = {}
    started = time.monotonic()
    source = _fetch_source(spec, store, work_dir / "source", board)
    timings["fetch"] = time.monotonic() - started
    output = work_dir / "artifact"
    compiled = _compile(spec, source, output, board)
    paths = [str(path.relative_to(output)) for path in sorted(output.rglob("*")) if path.is_file()]
    manifest = ArtifactManifest(
        digest=spec.request.digest,
        request=spec.request,
        source_commit=spec.origin.commit,
        graphs=compiled.graphs,
        files=describe_files(output, paths),
        tools=compiled.tools,
        timings={name: round(seconds, 3) for name, seconds in (timings | compiled.timings).items()},
        created_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    if not store.put_artifact(manifest, output, board.transferred(Stage.UPLOADING)):
        _log.info("somebody else has put the same artifact first; theirs is used")
    return manifest


def main() -> int:
    """Run as the container's process; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    board = Board()
    try:
        with progress_server(board):
            manifest = run(os.environ, board)
            board.show(Progress(stage=Stage.DONE))
    except ContainerFailure as failure:
        return leave_failure(os.environ, failure)
    except MemoryError:
        return leave_failure(os.environ, ContainerFailure(FailureCode.OUT_OF_MEMORY, "the process is out of memory"))
    except Terminated:
        return 128 + signal.SIGTERM
    except Exception as error:
        _log.exception("unexpected error")
        return leave_failure(os.environ, ContainerFailure(FailureCode.INTERNAL, f"{type(error).__name__}: {error}"))
    leave_message(os.environ, TerminationMessage(artifact_digest=manifest.digest))
    return ExitCode.OK


def _fetch_source(spec: CompileSpec, store: Store, folder: Path, board: Board) -> Path:
    """From the store when it holds the snapshot, else from its origin and into the store."""
    report = board.transferred(Stage.FETCHING)
    digest = spec.request.source_digest
    if store.read_source_manifest(digest) is not None:
        store.fetch_source(digest, folder, report)
        return folder
    manifest = fetch(spec.origin, digest, folder, report)
    store.put_source(manifest, folder, report)
    return folder


def _compile(spec: CompileSpec, source: Path, output: Path, board: Board) -> Compiled:
    def report(progress: CompileProgress) -> None:
        board.show(
            Progress(
                stage=Stage.COMPILING,
                done=progress.done,
                total=progress.total,
                eta_seconds=progress.eta_seconds,
                detail=progress.detail,
            )
        )

    board.show(Progress(stage=Stage.COMPILING, detail="weights"))
    engine = open_engine(spec.request.engine)
    return engine.compile(spec.request, source, output, threads=spec.threads, workers=spec.workers, report=report)


def _read_spec(environment: Mapping[str, str]) -> CompileSpec:
    for name in (COMPILE_SPEC_VARIABLE, WORK_DIR_VARIABLE):
        if not environment.get(name):
            raise ContainerFailure(FailureCode.INVALID_SPEC, f"{name} is not set")
    try:
        return CompileSpec.model_validate_json(environment[COMPILE_SPEC_VARIABLE])
    except ValidationError as error:
        raise ContainerFailure(FailureCode.INVALID_SPEC, f"{COMPILE_SPEC_VARIABLE} cannot be read: {error}") from error


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())
