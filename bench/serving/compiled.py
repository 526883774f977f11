"""The model that is measured: its source, its artifact, and what a decode step reads of it.

Artifacts are kept between runs, under the digest of their request and of the engine's code.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import neuron_runtime.engines
from neuron_localcluster.binaries import cache
from neuron_localcluster.progress import StageClock, silent
from neuron_localcluster.standins.models import ensure_smollm2
from neuron_localcluster.standins.tiny_llama import tiny_llama
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest, digest_of, hex_part
from neuron_runtime.contract.request import CompileRequest, DType, Engine, Quantization, Target
from neuron_runtime.engines import open_engine
from neuron_runtime.engines.base import CompileProgress
from neuron_runtime.store import describe_files
from serving.settings import Settings

_MANIFEST = "manifest.json"
_ARTIFACT = "artifact"
_FLOAT32_BYTES = 4
_THREADS, _WORKERS = 1, 2


@dataclass(frozen=True)
class CompiledModel:
    """Files of one model."""

    source: Path
    artifact: Path
    manifest_path: Path

    @property
    def manifest(self) -> ArtifactManifest:
        """Of the artifact."""
        return ArtifactManifest.model_validate_json(self.manifest_path.read_text("utf-8"))


def source_folder(model: str, folder: Path) -> Path:
    """The checkpoint of that name; `folder` takes one that is made anew."""
    if model == "smollm2":
        return ensure_smollm2()
    folder.mkdir(parents=True)
    tiny_llama(folder)
    return folder


def compiled(
    settings: Settings,
    source: Path,
    tell: Callable[[str], None],
    quantization: Quantization = Quantization.NONE,
) -> CompiledModel:
    """Compile a source, or find what an earlier run compiled. Raises ContainerFailure."""
    request = _request(settings, quantization, describe_source(source))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in _engine_files())).hexdigest()
    folder = cache.cache_folder() / "bench" / f"{hex_part(request.digest)[:16]}-{code[:16]}"

    def fill(staged: Path) -> None:
        told = ""

        def report(progress: CompileProgress) -> None:
            nonlocal told
            if progress.detail != told:
                told = progress.detail
                tell(f"compiling {told}")

        engine, output = open_engine(request.engine), staged / _ARTIFACT
        result = engine.compile(request, source, output, threads=_THREADS, workers=_WORKERS, report=report)
        manifest = ArtifactManifest(
            digest=request.digest,
            request=request,
            source_commit="0" * 40,
            graphs=result.graphs,
            files=describe_files(output),
            tools=result.tools,
            timings=result.timings,
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        (staged / _MANIFEST).write_text(manifest.to_json(), encoding="utf-8")

    with cache.locked(folder, StageClock(settings.model, silent)):
        if not folder.is_dir():
            cache.install(folder, fill)
    return CompiledModel(source, folder / _ARTIFACT, folder / _MANIFEST)


def describe_source(source: Path) -> Digest:
    """A digest of a checkpoint's files."""
    return digest_of([file.to_document() for file in describe_files(source)])


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights in float32."""

    total: int
    step: int
    """Read by one decode step: of an input embedding that is not also the head, only rows are."""


def weights(source: Path) -> Weights:
    """Of a checkpoint."""
    sizes = {
        name: _FLOAT32_BYTES * math.prod(shape)
        for path in source.glob("*.safetensors")
        for name, shape in _shapes(path)
    }
    total = sum(sizes.values())
    return Weights(total, total - (sizes["model.embed_tokens.weight"] if "lm_head.weight" in sizes else 0))


def _request(settings: Settings, quantization: Quantization, source_digest: Digest) -> CompileRequest:
    engine = open_engine(Engine.CPU)
    return CompileRequest(
        engine=Engine.CPU,
        toolchain={**engine.toolchain(), "march": "x86-64-v3"},
        source_digest=source_digest,
        shapes=settings.shapes,
        dtype=DType.FLOAT32,
        quantization=quantization,
        target=Target.CPU,
    )


def _engine_files() -> list[Path]:
    """The digest of a request stands for released code only; here the code itself is what changes."""
    folders = [Path(folder) for folder in neuron_runtime.engines.__path__]
    return sorted(path for folder in folders for kind in ("*.py", "*.cpp") for path in folder.rglob(kind))


def _shapes(path: Path) -> list[tuple[str, list[int]]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return [(name, entry["shape"]) for name, entry in header.items() if name != "__metadata__"]
