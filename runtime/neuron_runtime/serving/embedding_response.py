"""Bodies of answers to `POST /v1/embeddings`."""

import base64
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Literal

from typing_extensions import TypedDict

from neuron_runtime.engines.base import Vectors

from .embedding_request import VectorEncoding

VECTORS_PER_PIECE = 16


class EmbeddingUsage(TypedDict):
    """Tokens of all texts together."""

    prompt_tokens: int
    total_tokens: int


class Embedding(TypedDict):
    """The vector of one text: numbers, or Base64 of its little-endian float32s."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(TypedDict):
    """The whole answer to a request."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


def embeddings_body(vectors: Vectors, encoding: VectorEncoding, model: str, tokens: int) -> Iterator[bytes]:
    """Pieces of the body, for texts of so many tokens together. vectors: float32[texts, dimensions].

    As text, vectors take many times their memory; written piece by piece, a slow reader holds the vectors alone.
    """
    write = _floats if encoding is VectorEncoding.FLOAT else _base64
    entries = (write(index, vector) for index, vector in enumerate(vectors))
    begin = b'{"object":"list","data":['
    while piece := b",".join(islice(entries, VECTORS_PER_PIECE)):
        yield begin + piece
        begin = b","
    usage: EmbeddingUsage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield b"]," + _json({"model": model, "usage": usage}).removeprefix(b"{")


def _floats(index: int, vector: Vectors) -> bytes:
    return _entry({"object": "embedding", "index": index, "embedding": vector.tolist()})


def _base64(index: int, vector: Vectors) -> bytes:
    written = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return _entry({"object": "embedding", "index": index, "embedding": written})


def _entry(embedding: Embedding) -> bytes:
    return _json(embedding)


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
