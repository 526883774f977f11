"""Entry point of the compile container: `python -m neuron_runtime.compile`.

Reads its CompileSpec from the environment, fetches the source, compiles it, and commits the artifact to the store. An
artifact that is committed already, before or meanwhile, is success: equal digests are interchangeable.
"""

import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import NoReturn

from neuron_runtime.compile_progress import ProgressBoard, ProgressServer
from neuron_runtime.container import OpenEngine, end_process, read_spec, run_as_container, variable
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest, short
from neuron_runtime.contract.launch import COMPILE_SPEC_VARIABLE, WORK_DIR_VARIABLE, CompileSpec
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode, TerminationMessage
from neuron_runtime.contract.progress import PROGRESS_PORT, Progress, Stage
from neuron_runtime.contract.source import SourceManifest, is_weights
from neuron_runtime.engines import Engine, open_engine
from neuron_runtime.engines.base import Compiled, CompileProgress
from neuron_runtime.engines.model_config import read_config
from neuron_runtime.sources import copy_snapshot, open_source
from neuron_runtime.sources.hub_client import Patience
from neuron_runtime.store import Report, Store, describe_files, open_store

_log = logging.getLogger("neuron_runtime.compile")

# A hub that limits us is worth waiting for: what was fetched is lost with the pod.
_PAUSE = 300.0
_PATIENCE = 900.0
_TERMINATED = 128 + signal.SIGTERM


class Terminated(BaseException):
    """SIGTERM. Not an Exception: nothing on the way may take it for a failure of its own."""


class Compilation:
    """One run, from a spec to a committed artifact."""

    def __init__(
        self,
        spec: CompileSpec,
        store: Store,
        engine: Engine,
        work_dir: Path,
        board: ProgressBoard,
        environment: Mapping[str, str],
    ) -> None:
        self._spec = spec
        self._store = store
        self._engine = engine
        self._source = work_dir / "source"
        self._output = work_dir / "artifact"
        self._cache = work_dir / "hugging-face"
        self._board = board
        self._environment = environment
        self._timings: dict[str, float] = {}

    def run(self) -> Digest:
        """The committed artifact's digest. Raises ContainerFailure."""
        request = self._spec.request
        if self._store.read_artifact_manifest(request.digest) is not None:
            _log.info("artifact %s is committed already", short(request.digest))
            if not self._source_is_stored():
                # Whoever serves the artifact reads its source as well.
                with self._stage(Stage.FETCHING):
                    self._fetch()
            return request.digest
        with self._stage(Stage.FETCHING):
            commit = self._fetch()
        with self._stage(Stage.COMPILING):
            compiled = self._engine.compile(
                request,
                self._source,
                self._output,
                threads=self._spec.threads,
                workers=self._spec.workers,
                report=self._report_compiling,
            )
        self._timings.update({f"{Stage.COMPILING.value}/{name}": took for name, took in compiled.timings.items()})
        with self._stage(Stage.UPLOADING):
            self._commit(commit, compiled)
        return request.digest

    def _source_is_stored(self) -> bool:
        try:
            return self._store.read_source_manifest(self._spec.request.source_digest) is not None
        except ContainerFailure as failure:
            if failure.code is FailureCode.SOURCE_DAMAGED:
                return False
            raise

    def _fetch(self) -> str:
        """Bring the source into its folder, and into the store for whoever serves it; its commit."""
        digest, report = self._spec.request.source_digest, self._report(Stage.FETCHING)
        try:
            self._store.fetch_source(digest, self._source, _silent, wanted=lambda path: not is_weights(path))
            self._check()
            return self._store.fetch_source(digest, self._source, report).commit
        except ContainerFailure as failure:
            if failure.code not in (FailureCode.SOURCE_MISSING, FailureCode.SOURCE_DAMAGED):
                raise
            _log.info("%s; the source is fetched from its origin", failure.message)
            damaged = failure.code is FailureCode.SOURCE_DAMAGED
        manifest = self._copy(report)
        put = self._store.replace_source if damaged else self._store.put_source
        put(manifest, self._source, self._report(Stage.FETCHING, "storing the source"))
        return manifest.commit

    def _copy(self, report: Report) -> SourceManifest:
        """Bring the source from its origin into its folder."""
        spec = self._spec
        source = open_source(spec.origin, spec.token, self._environment, self._cache, Patience(_PAUSE, _PATIENCE))
        with closing(source):
            return copy_snapshot(
                source,
                spec.origin,
                spec.request.source_digest,
                self._source,
                report,
                self._check,
                allow_pickle=spec.allow_pickle,
            )

    def _check(self) -> None:
        """Refuse a model that the engine cannot compile, before its weights are moved."""
        self._engine.describe(self._spec.request, read_config(self._source))

    def _commit(self, commit: str, compiled: Compiled) -> None:
        request = self._spec.request
        manifest = ArtifactManifest(
            digest=request.digest,
            request=request,
            source_commit=commit,
            graphs=compiled.graphs,
            files=describe_files(self._output),
            tools=compiled.tools,
            timings=dict(self._timings),
            created_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        if not self._store.put_artifact(manifest, self._output, self._report(Stage.UPLOADING)):
            _log.info("artifact %s was committed by somebody else meanwhile; theirs counts", short(request.digest))

    @contextmanager
    def _stage(self, stage: Stage) -> Iterator[None]:
        self._board.post(Progress(stage=stage))
        started = time.monotonic()
        yield
        self._timings[stage.value] = round(time.monotonic() - started, 2)
        _log.info("%s took %.1f s", stage.value, self._timings[stage.value])

    def _report(self, stage: Stage, detail: str = "") -> Report:
        started = time.monotonic()

        def report(done: int, total: int) -> None:
            eta = (time.monotonic() - started) * (total - done) / done if 0 < done <= total else None
            self._board.post(Progress(stage=stage, done=max(done, 0), total=total, eta_seconds=eta, detail=detail))

        return report

    def _report_compiling(self, progress: CompileProgress) -> None:
        self._board.post(
            Progress(
                stage=Stage.COMPILING,
                done=progress.done,
                total=progress.total,
                eta_seconds=progress.eta_seconds,
                detail=progress.detail,
            )
        )


def _silent(_done: int, _total: int) -> None:
    """Files so small that nobody has to be told."""


def run(environment: Mapping[str, str], engines: OpenEngine, port: int = PROGRESS_PORT) -> Digest:
    """Compile what the environment asks for; the committed artifact's digest. Raises ContainerFailure."""
    board = ProgressBoard()
    server = ProgressServer(environment, port, board)
    try:
        spec = read_spec(environment, COMPILE_SPEC_VARIABLE, CompileSpec)
        work_dir = Path(variable(environment, WORK_DIR_VARIABLE))
        engine = engines(spec.request.engine)
        digest = Compilation(spec, open_store(spec.store), engine, work_dir, board, environment).run()
        board.post(Progress(stage=Stage.DONE))
        return digest
    finally:
        server.close()


def main(engines: OpenEngine = open_engine, port: int = PROGRESS_PORT) -> NoReturn:
    """Run as the container's process, and end it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        run_as_container(lambda: TerminationMessage(artifact_digest=run(os.environ, engines, port)), os.environ)
    except Terminated:
        end_process(_TERMINATED)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    main()
