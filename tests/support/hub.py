"""A Hugging Face hub with one repository, whose answers a test can change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from neuron_operator.api.objects import Manifest
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.source import SourceFile, source_digest

CONFIG = {
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
ENCODER_CONFIG = {
    "architectures": ["BertModel"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 256,
}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Hub:
    """Answers for every repository name alike. `refusal` takes the place of every answer while it is set."""

    def __init__(self) -> None:
        self.commit = _hash("first")[:40]
        self.config: Any = CONFIG
        self.weights: str | None = "model.safetensors"
        self.refusal: web.Response | None = None
        self.info: Any = None
        """Takes the place of the listing while it is set."""
        self.asked: list[str] = []
        self.endpoint = ""
        self.server: TestServer | None = None

    def files(self) -> tuple[SourceFile, ...]:
        """What the listing says, as a reader understands it."""
        found = [SourceFile(path="config.json", size=300, content_id=f"git-blob:{_hash('config')[:40]}")]
        if self.weights is not None:
            found.append(SourceFile(path=self.weights, size=10_000, content_id=f"lfs-sha256:{_hash('weights')}"))
        return tuple(found)

    async def stop(self) -> None:
        """Listen no more."""
        assert self.server is not None
        await self.server.close()

    @property
    def digest(self) -> Digest:
        """Digest of the files that are taken."""
        return source_digest(self.files())

    def refuse(self, status: int, code: str = "", **headers: str) -> None:
        """Answer everything with this status from now on."""
        named = {"X-Error-Code": code} if code else {}
        self.refusal = web.json_response({"error": code}, status=status, headers=named | headers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.raw_path)
        if self.refusal is not None:
            # A response can be sent once only.
            return web.Response(status=self.refusal.status, headers=self.refusal.headers.copy(), body=b"{}")
        if "/resolve/" in request.path:
            return web.Response(text=json.dumps(self.config), content_type="text/plain")
        if self.info is not None:
            return web.json_response(self.info)
        return web.json_response({"sha": self.commit, "siblings": [_sibling(file) for file in self.files()]})


def _sibling(file: SourceFile) -> Manifest:
    scheme, _, value = file.content_id.partition(":")
    if scheme == "git-blob":
        return {"rfilename": file.path, "size": file.size, "blobId": value}
    large = {"sha256": value, "size": file.size, "pointerSize": 134}
    return {"rfilename": file.path, "size": file.size, "blobId": "b" * 40, "lfs": large}


@asynccontextmanager
async def serving_hub() -> AsyncIterator[Hub]:
    """A hub that listens on loopback."""
    hub = Hub()
    application = web.Application()
    application.router.add_get("/{path:.*}", hub._answer)
    hub.server = server = TestServer(application)
    await server.start_server()
    hub.endpoint = str(server.make_url("")).rstrip("/")
    try:
        yield hub
    finally:
        await server.close()
