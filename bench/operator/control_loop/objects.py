"""The models that are created, and where their sources and artifacts come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

from neuron_localcluster.simulator import ContainerEnd, Resource
from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.launch import COMPILE_SPEC_VARIABLE, CompileSpec
from neuron_runtime.contract.source import SourceManifest, StoredFile
from neuron_runtime.contract.store import MANIFEST, StoreLocation

NEURON_MODELS = Resource("neuron-operator.dev/v1alpha1", "NeuronModel", "neuronmodels")
BUCKET = "artifacts"

_NAMESPACES = 10
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "vocab_size": 256,
}


def namespaces() -> list[str]:
    return [f"team-{number}" for number in range(_NAMESPACES)]


def add_repositories(root: Path, count: int) -> None:
    """Put repositories on the hub that differ in their weights alone, so that each has an artifact of its own."""
    for number in range(count):
        folder = root / "bench" / f"model-{number}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(_CONFIG))
        (folder / "model.safetensors").write_text(f"weights {number}")


def model(name: str, repository: int) -> dict[str, Any]:
    """A NeuronModel. Models of one repository lie in one namespace, and share their artifact."""
    return {
        "apiVersion": NEURON_MODELS.api_version,
        "kind": NEURON_MODELS.kind,
        "metadata": {"name": name, "namespace": f"team-{repository % _NAMESPACES}"},
        "spec": {
            "model": {"huggingFace": {"repo": f"bench/model-{repository}"}},
            "shapes": {"maxModelLength": 128},
            "artifactStore": {"s3": {"bucket": BUCKET}},
        },
    }


def model_of(name: str) -> str:
    """Name of the model to which an object belongs: what comes before the first dash."""
    return name.partition("-")[0]


class Store:
    """Where compile Jobs leave what they made."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint

    async def end_job(self, job: dict[str, Any]) -> ContainerEnd:
        """Commit source and artifact of a compile Job, as its container does, without the compiling."""
        return await self.end_pod(job["spec"]["template"])

    async def end_pod(self, pod: dict[str, Any]) -> ContainerEnd:
        """The same for the Job's pod."""
        environment = pod["spec"]["containers"][0]["env"]
        text = next(item["value"] for item in environment if item["name"] == COMPILE_SPEC_VARIABLE)
        spec = CompileSpec.model_validate_json(text)
        request = spec.request
        artifact = ArtifactManifest(
            digest=request.digest,
            request=request,
            source_commit="c" * 40,
            graphs=(),
            files=(StoredFile(path="weights", size=3, sha256="0" * 64),),
            tools={},
            timings={},
            created_at="2026-01-01T00:00:00Z",
        )
        source = SourceManifest(digest=request.source_digest, repo="bench/model", commit="c" * 40, files=())
        await self._put(spec.store, spec.store.source_prefix(request.source_digest), source.to_json())
        await self._put(spec.store, spec.store.artifact_prefix(request.digest), artifact.to_json())
        return ContainerEnd()

    async def _put(self, store: StoreLocation, prefix: str, text: str) -> None:
        url = f"{self._endpoint}/{store.bucket}/{prefix}{MANIFEST}"
        async with self._session.put(url, data=text.encode()) as response:
            response.raise_for_status()
