"""An artifact that is fetched on a thread of its own: whoever loads it takes each file as soon as it is verified."""

import threading
from collections.abc import Callable
from time import perf_counter

from neuron_runtime.contract.artifact import ArtifactManifest

from .files import Arrived

Fetch = Callable[[Callable[[ArtifactManifest], None], Arrived], object]
"""Fetches an artifact: is given what is to be told of its manifest, before any file, and what of each file."""


class Arrival:
    """One artifact on its way. What `fetch` raises is raised by whoever waits, and nothing more comes then."""

    def __init__(self, fetch: Fetch) -> None:
        self._changed = threading.Condition()
        self._manifest = list[ArtifactManifest]()
        self._paths = set[str]()
        self._complete = False
        self._failure: BaseException | None = None
        self.waited = 0.0
        """Seconds that callers have waited for files."""
        # A daemon: the end of the process must not wait for a download.
        threading.Thread(target=self._run, args=(fetch,), name="fetch", daemon=True).start()

    def manifest(self) -> ArtifactManifest:
        """Wait for the manifest."""
        self._wait(lambda: bool(self._manifest))
        return self._manifest[0]

    def file(self, path: str) -> None:
        """Wait until a file of the artifact is verified. Raises FileNotFoundError when it is none of its files."""
        self._wait_for_files(lambda: path in self._paths or self._complete)
        if path not in self._paths:
            raise FileNotFoundError(f"the artifact has no file {path}")

    def all_files(self) -> None:
        """Wait until every file is verified."""
        self._wait_for_files(lambda: self._complete)

    def _wait_for_files(self, arrived: Callable[[], bool]) -> None:
        started = perf_counter()
        try:
            self._wait(arrived)
        finally:
            self.waited += perf_counter() - started

    def _wait(self, arrived: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or arrived())
            if self._failure is not None:
                raise self._failure

    def _run(self, fetch: Fetch) -> None:
        try:
            fetch(self._read, self._add)
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            return
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def _read(self, manifest: ArtifactManifest) -> None:
        with self._changed:
            self._manifest.append(manifest)
            self._changed.notify_all()

    def _add(self, path: str) -> None:
        with self._changed:
            self._paths.add(path)
            self._changed.notify_all()
