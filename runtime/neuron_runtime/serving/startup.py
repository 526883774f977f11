"""From a serving spec to a loaded model: fetch, verify, check, load, warm up. Compiles nothing, whatever is missing."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import perf_counter

from neuron_runtime.container import failure_of
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import short
from neuron_runtime.contract.launch import ServingSpec
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.engines.base import EncoderSession, Engine, Session
from neuron_runtime.store import Arrival, Arrived, Store

from .encoding_scheduler import EncodingScheduler
from .metrics import Metrics
from .scheduler import Scheduler
from .state import Phase, Served, ServedEncoder, ServedModel, ServerState
from .tokenization import ModelTokenizer, is_needed, load_tokenizer

_log = logging.getLogger(__name__)

_QUEUE_LIMIT = 32
# Two of the largest requests: tens of megabytes of tokens and vectors.
_TEXT_QUEUE_LIMIT = 4096


class Startup:
    """One start of a server."""

    def __init__(
        self, spec: ServingSpec, store: Store, engine: Engine, work_dir: Path, state: ServerState, metrics: Metrics
    ) -> None:
        self._spec = spec
        self._store = store
        self._engine = engine
        self._artifact = work_dir / "artifact"
        self._source = work_dir / "source"
        self._state = state
        self._metrics = metrics
        self._started = perf_counter()

    def run(self) -> Served:
        """Raises ContainerFailure."""
        self._state.enter(Phase.FETCHING)
        arrival = Arrival(self._fetch_all)
        manifest = arrival.manifest()
        with self._timed(Phase.LOADING):
            tokenizer = load_tokenizer(self._source)
            # While the weights are still on their way: that takes longest.
            session = self._engine.load(
                manifest, self._artifact, self._source, threads=self._spec.threads, wait=arrival.file
            )
            # Those too that the engine has no use for: an artifact is whole, or it is not served.
            arrival.all_files()
        self._metrics.load_waiting.set(arrival.waited)
        _log.info("Loading waited %.2f s for files", arrival.waited)
        self._state.enter(Phase.WARMING_UP)
        with self._timed(Phase.WARMING_UP):
            session.warm_up()
        _log.info(
            "%s is ready after %.2f s (artifact %s, %d graphs)",
            self._spec.served_name,
            perf_counter() - self._started,
            short(manifest.digest),
            len(manifest.graphs),
        )
        return self._served(manifest, tokenizer, session)

    def _fetch_all(self, read: Callable[[ArtifactManifest], None], arrived: Arrived) -> None:
        """What it raises comes up within the engine, which would take a full disk for an artifact that does not fit."""
        try:
            self._fetch(read, arrived)
        except Exception as error:
            raise failure_of(error) from error

    def _fetch(self, read: Callable[[ArtifactManifest], None], arrived: Arrived) -> None:
        def check(manifest: ArtifactManifest) -> None:
            self._check(manifest)
            # A few small files, which all that is loaded needs; so they come before the artifact's.
            self._store.fetch_source(
                self._spec.source_digest, self._source, self._state.advance, wanted=self._is_wanted
            )
            read(manifest)

        with self._timed(Phase.FETCHING):
            # Checked before gigabytes are fetched that this container could not run.
            self._store.fetch_artifact(
                self._spec.artifact_digest, self._artifact, self._state.advance, check=check, arrived=arrived
            )
        self._state.enter(Phase.LOADING)

    def _is_wanted(self, path: str) -> bool:
        return is_needed(path) or self._engine.reads_source(path)

    def _check(self, manifest: ArtifactManifest) -> None:
        request = manifest.request
        if request.engine is not self._spec.engine:
            raise _incompatible(f"it was compiled for the engine {request.engine.value}", self._spec.engine.value)
        if request.source_digest != self._spec.source_digest:
            raise _incompatible(f"it was compiled from the source {request.source_digest}", self._spec.source_digest)
        self._engine.check(manifest)

    def _served(self, manifest: ArtifactManifest, tokenizer: ModelTokenizer, session: Session) -> Served:
        name = self._spec.served_name
        created = int(datetime.fromisoformat(manifest.created_at.replace("Z", "+00:00")).timestamp())
        if isinstance(session, EncoderSession):
            scheduler = EncodingScheduler(session, self._metrics, queue_limit=_TEXT_QUEUE_LIMIT)
            return ServedEncoder(name, created, tokenizer, scheduler)
        return ServedModel(
            name=name,
            fingerprint=f"fp_{short(manifest.digest)}",
            created=created,
            tokenizer=tokenizer,
            scheduler=Scheduler(session, self._metrics, queue_limit=_QUEUE_LIMIT),
        )

    @contextmanager
    def _timed(self, phase: Phase) -> Iterator[None]:
        begun = perf_counter()
        yield
        start, seconds = begun - self._started, perf_counter() - begun
        self._metrics.load_phase_start.labels(phase.value).set(start)
        self._metrics.load_phase.labels(phase.value).set(seconds)
        _log.info("%s took %.2f s, from %.2f s on", phase.value, seconds, start)


def _incompatible(found: str, wanted: str) -> ContainerFailure:
    return ContainerFailure(FailureCode.ARTIFACT_INCOMPATIBLE, f"the artifact cannot be served: {found}, not {wanted}")
