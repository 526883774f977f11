"""The real kubectl and helm, run against one cluster."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TextIO

from demo.failure import DemoFailed
from neuron_localcluster.binaries.pins import Binaries

Manifest = dict[str, Any]
_EXCERPT_LINES = 20


class Tools:
    """Runs programs as the cluster's administrator; what they say goes to the log."""

    def __init__(self, binaries: Binaries, kubeconfig: Path, scratch: Path, log: TextIO) -> None:
        self._binaries = binaries
        self._log = log
        # Whatever the caller's own kubectl and helm are set up for is none of the demo's business.
        own = {f"HELM_{kind}_HOME": str(scratch / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig), **own}

    def kubectl(self, *arguments: str) -> str:
        """Output of a call; raises DemoFailed with what kubectl said."""
        return self._run(self._binaries.kubectl, *arguments)

    def kubectl_json(self, *arguments: str) -> Manifest:
        """The object that a call answers with."""
        answer: Manifest = json.loads(self.kubectl(*arguments, "--output=json"))
        return answer

    def helm(self, *arguments: str) -> str:
        """Output of a call; raises DemoFailed with what helm said."""
        return self._run(self._binaries.helm, *arguments)

    def watch(self, *arguments: str) -> Watch:
        """Follow an object: its present state first, then every change."""
        command = [str(self._binaries.kubectl), "get", *arguments, "--watch", "--output=json"]
        return Watch(command, self._environment, self._log)

    def _run(self, program: Path, *arguments: str) -> str:
        result = subprocess.run(
            [str(program), *arguments], env=self._environment, capture_output=True, text=True, check=False
        )
        called = f"{program.name} {' '.join(arguments)}"
        self._log.write(f"$ {called}\n{result.stderr}")
        if result.returncode:
            lines = (result.stderr or result.stdout).strip().splitlines()[-_EXCERPT_LINES:]
            raise DemoFailed(f"`{called}` failed with exit code {result.returncode}", excerpt=lines)
        return result.stdout


class Watch:
    """A `kubectl get --watch`, read in the background."""

    def __init__(self, command: list[str], environment: dict[str, str], log: TextIO) -> None:
        self._command = command
        self._environment = environment
        self._log = log
        self._objects: queue.Queue[Manifest | None] = queue.Queue()
        self._process = self._start()

    def newest(self, seconds: float) -> Manifest | None:
        """Wait that long for a change at most; of several changes only the last one is given."""
        newest = None
        try:
            found = self._objects.get(timeout=seconds)
            while True:
                if found is None:
                    # The API server ends every watch after some time.
                    self._process.wait()
                    self._process = self._start()
                else:
                    newest = found
                found = self._objects.get_nowait()
        except queue.Empty:
            return newest

    def close(self) -> None:
        """End kubectl."""
        self._process.terminate()
        self._process.wait()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()
        return process

    def _read(self, stream: IO[str]) -> None:
        for manifest in documents(stream):
            self._objects.put(manifest)
        self._objects.put(None)


def documents(lines: Iterator[str] | IO[str]) -> Iterator[Manifest]:
    """The objects of a stream in which each ends with a `}` at the start of a line, as kubectl prints them."""
    pending: list[str] = []
    for line in lines:
        pending.append(line)
        if line.rstrip() == "}":
            yield json.loads("".join(pending))
            pending.clear()
