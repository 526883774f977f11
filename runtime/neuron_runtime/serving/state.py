"""What the server is doing: starting, in which phase, ready, or on its way out. Probes read it."""

import threading
from dataclasses import dataclass
from enum import Enum
from time import monotonic

from neuron_runtime.contract.request import Task

from .encoding_scheduler import EncodingScheduler
from .model_response import Readiness
from .scheduler import Scheduler
from .tokenization import ModelTokenizer


class Phase(str, Enum):
    """Phases of a server's life, in their order."""

    STARTING = "Starting"
    FETCHING = "Fetching"
    LOADING = "Loading"
    WARMING_UP = "WarmingUp"
    READY = "Ready"
    DRAINING = "Draining"
    """Not ready any more; requests that still come in are answered for a moment."""
    FAILED = "Failed"


@dataclass(frozen=True)
class ServedModel:
    """A model that generates text, loaded and warmed up."""

    name: str
    fingerprint: str
    created: int
    """Unix time at which the artifact was made."""
    tokenizer: ModelTokenizer
    scheduler: Scheduler

    @property
    def task(self) -> Task:
        """What it is asked for."""
        return Task.TEXT_GENERATION

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self.scheduler.capabilities.max_model_length


@dataclass(frozen=True)
class ServedEncoder:
    """A model that makes vectors of texts, loaded and warmed up."""

    name: str
    created: int
    """Unix time at which the artifact was made."""
    tokenizer: ModelTokenizer
    scheduler: EncodingScheduler

    @property
    def task(self) -> Task:
        """What it is asked for."""
        return Task.EMBEDDING

    @property
    def max_length(self) -> int:
        """Tokens of one text."""
        return self.scheduler.capabilities.max_length


Served = ServedModel | ServedEncoder
"""What a server serves; which of them the artifact's task decides."""


class ServerState:
    """Shared by the thread that loads and the event loop that answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase = Phase.STARTING
        self._since = monotonic()
        self._started = self._since
        self._done = 0
        self._total = 0
        self._model: Served | None = None
        self._message = ""

    @property
    def phase(self) -> Phase:
        """The phase now."""
        return self._phase

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self._phase is Phase.READY and self.healthy

    @property
    def healthy(self) -> bool:
        """Whether the process can still come to serve, or go on with it."""
        return self._model is None or self._model.scheduler.healthy

    @property
    def model(self) -> Served | None:
        """The model, once it is ready; still there while draining."""
        return self._model

    def enter(self, phase: Phase) -> None:
        """Begin a phase of the start; ignored once the server drains or has failed, which nothing takes back."""
        with self._lock:
            if self._phase in (Phase.DRAINING, Phase.FAILED):
                return
            self._phase, self._since, self._done, self._total = phase, monotonic(), 0, 0

    def advance(self, done: int, total: int) -> None:
        """Say how far the phase is, in bytes."""
        self._done, self._total = done, total

    def serve(self, model: Served) -> None:
        """The model is ready."""
        self._model = model
        self.enter(Phase.READY)

    def fail(self, message: str) -> None:
        """The start failed; the process is about to end."""
        self._message = message
        self.enter(Phase.FAILED)

    def document(self) -> Readiness:
        """What `/readyz` answers."""
        now = monotonic()
        document: Readiness = {
            "ready": self.ready,
            "phase": self._phase.value,
            "phaseSeconds": round(now - self._since, 3),
            "uptimeSeconds": round(now - self._started, 3),
        }
        if self._total:
            document |= {"done": self._done, "total": self._total}
        if self._message:
            document["message"] = self._message
        return document
