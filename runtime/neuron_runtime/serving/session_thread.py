"""The thread that owns an engine's session, and the lock between it and the requests that come and go.

What a request is, who waits and what a step takes is the schedulers'.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from neuron_runtime.engines.base import Session

from .generation import Dropped, Failed

_log = logging.getLogger(__name__)

# One failure may be the request's; several in a row are the engine's, and only a new process mends it.
FAILURES_UNTIL_UNHEALTHY = 3


class SchedulerClosed(Exception):
    """The server shuts down."""


class SessionThread(ABC):
    """Runs turns while there is something to do."""

    def __init__(self, session: Session) -> None:
        self._closing = session
        self._changed = threading.Condition()
        """Held while requests come, go or are looked at; told of every change."""
        self._accepting = True
        self._closed = False
        self._broken = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    @abstractmethod
    def turn(self) -> None:
        """Do what is next. On the engine's thread, without the lock."""

    @abstractmethod
    def _is_idle(self) -> bool:
        """Whether no request runs or waits. With the lock held."""

    @abstractmethod
    def _drop(self, event: Dropped | Failed) -> None:
        """Give up all requests, telling each of those that still listen; without the lock."""

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """False once the engine's thread has ended by an error."""
        return not self._broken

    def stop_accepting(self) -> None:
        """Take no more requests; those that are in go on."""
        with self._changed:
            self._accepting = False

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no request runs or waits; False when some still do after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout)

    def close(self, timeout: float) -> None:
        """Drop all requests, telling each, and close the session after the step that runs.

        The step may take longer than `timeout` seconds; it is then left to the process's end.
        """
        self._end(Dropped())
        self._thread.join(timeout)

    @contextmanager
    def _admitting(self) -> Iterator[None]:
        """Hold the lock to take a request. Raises SchedulerClosed."""
        with self._changed:
            if not self._accepting:
                raise SchedulerClosed
            yield

    def _work(self) -> None:
        try:
            while self._wait():
                self.turn()
        except Exception:  # the thread is about to end: whoever waits for it has to hear
            _log.exception("the engine's thread failed")
            self._broken = True
            self._end(Failed("the engine's thread failed"))
        finally:
            self._closing.close()

    def _wait(self) -> bool:
        """Wait for something to do; False when there will be nothing more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._is_idle())
            return not self._closed

    def _end(self, event: Dropped | Failed) -> None:
        with self._changed:
            self._accepting, self._closed = False, True
            self._changed.notify_all()
        self._drop(event)
