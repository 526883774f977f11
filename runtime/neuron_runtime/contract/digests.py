"""Canonical JSON and the digests made of it.

A digest is written `sha256:<64 hex digits>` wherever a document holds one. Object keys and Kubernetes names take the
hexadecimal part alone.
"""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

_PREFIX = "sha256:"


class ContractModel(BaseModel):
    """Base of every document that crosses the line between operator and containers.

    Frozen, camelCase on the wire. Unknown fields are ignored, so that a newer writer does not break an older reader;
    a change that an older reader must not ignore raises `contract_version`.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def to_document(self) -> dict[str, Any]:
        """Return the document as plain JSON types, absent optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        """Return the document in canonical form: equal documents are equal strings."""
        return canonical_json(self.to_document()).decode()


def canonical_json(value: Any) -> bytes:
    """Encode with sorted keys and no spaces, so that equal values have equal bytes. NaN and infinities are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Any) -> Digest:
    """Digest of a JSON value in canonical form."""
    return digest_of_bytes(canonical_json(value))


def digest_of_bytes(data: bytes) -> Digest:
    """Digest of bytes as they are."""
    return _PREFIX + hashlib.sha256(data).hexdigest()


def hex_part(digest: Digest) -> str:
    """The 64 hexadecimal digits, as object keys hold them."""
    return digest.removeprefix(_PREFIX)


def short(digest: Digest, length: int = 10) -> str:
    """The first hexadecimal digits, as names and labels hold them."""
    return hex_part(digest)[:length]
