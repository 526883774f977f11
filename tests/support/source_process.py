"""Copies a source in a process of its own: huggingface_hub reads its settings when it is imported."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_COPY = """
import json, os, sys
from contextlib import closing
from pathlib import Path
from pydantic import TypeAdapter
from neuron_runtime.contract.origin import Origin, SecretKey
from neuron_runtime.contract.outcome import ContainerFailure
from neuron_runtime.sources import copy_snapshot, open_source
from neuron_runtime.sources.hub_client import Patience
origin, digest, folder, options = json.loads(sys.argv[1])
origin, folder = TypeAdapter(Origin).validate_python(origin), Path(folder)
steps, waits = [], []
try:
    secret = SecretKey(secret="hf", key="token") if options.get("token") else None
    patience = Patience(60, 600, waits.append)
    with closing(open_source(origin, secret, os.environ, folder.parent / "cache", patience)) as source:
        report = lambda *step: steps.append(step)
        manifest = copy_snapshot(
            source, origin, digest, folder, report, lambda: None, allow_pickle=options.get("allow_pickle", False)
        )
except ContainerFailure as failure:
    answer = {"code": failure.code.value, "message": failure.message, "after": failure.retry_after_seconds}
except OSError as error:
    answer = {"errno": error.errno}
else:
    answer = {"manifest": manifest.to_document(), "last": steps[-1], "torch": "torch" in sys.modules}
print(json.dumps(answer | {"waits": waits}))
"""


def copy_source(
    origin: Mapping[str, Any],
    digest: str,
    folder: Path,
    variables: Mapping[str, str],
    *,
    largest_file: int = resource.RLIM_INFINITY,
    **options: object,
) -> dict[str, Any]:
    """What became of it: `manifest`, or a failure's `code` and `message`; `waits` are the pauses that it took (and did
    not sleep), `log` what it wrote."""
    # A home that cannot be written to, as in a pod with a read-only root file system.
    environment = {**os.environ, "HOME": "/proc", "XDG_CACHE_HOME": "/proc", **variables}
    environment.pop("HF_HOME", None)
    argument = json.dumps([origin, digest, str(folder), options])
    finished = subprocess.run(
        [sys.executable, "-c", _COPY, argument],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY)),
    )
    assert finished.returncode == 0, finished.stderr
    answer: dict[str, Any] = json.loads(finished.stdout)
    return answer | {"log": finished.stderr}
