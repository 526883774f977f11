"""Where sources and artifacts lie in a store.

`<prefix>/<domain>/sources/<hex>/` and `<prefix>/<domain>/artifacts/<hex>/`, each committed by its `manifest.json`,
which is put last and only if absent (`If-None-Match: *`). A file's key holds its hash: two writers whose compilers gave
different bytes for one digest cannot overwrite each other's files below a committed manifest.
"""

import re

from .digests import ContractModel, Digest, hex_part
from .source import StoredFile

MANIFEST = "manifest.json"

_ARTIFACT_URI = re.compile(
    r"s3://(?P<bucket>[^/]+)/(?:(?P<prefix>.+)/)?(?P<domain>shared|ns/[^/]+)/artifacts/(?P<hex>[0-9a-f]{64})/?"
)


class StoreLocation(ContractModel):
    """A bucket and the part of it that one sharing domain uses. Credentials and endpoints come from the environment."""

    bucket: str
    prefix: str = ""
    domain: str
    """`ns/<namespace>`, or `shared`."""
    region: str | None = None

    @classmethod
    def of_artifact(cls, uri: str, region: str | None = None) -> tuple["StoreLocation", Digest] | None:
        """The store and the digest that an artifact's address names, as `uri(artifact_prefix(digest))` gives it.

        None for an address that is none.
        """
        found = _ARTIFACT_URI.fullmatch(uri)
        if found is None:
            return None
        location = cls(bucket=found["bucket"], prefix=found["prefix"] or "", domain=found["domain"], region=region)
        return location, f"sha256:{found['hex']}"

    def artifact_prefix(self, digest: Digest) -> str:
        """Key prefix of an artifact, with a closing slash."""
        return self._prefix("artifacts", digest)

    def source_prefix(self, digest: Digest) -> str:
        """Key prefix of a source snapshot, with a closing slash."""
        return self._prefix("sources", digest)

    def file_key(self, key_prefix: str, file: StoredFile) -> str:
        """Key of a file that the manifest below `key_prefix` names."""
        return f"{key_prefix}{file.sha256}/{file.path}"

    def uri(self, key_prefix: str) -> str:
        """The `s3://` form of a key prefix, for people and command lines."""
        return f"s3://{self.bucket}/{key_prefix}"

    def _prefix(self, kind: str, digest: Digest) -> str:
        parts = [self.prefix.strip("/"), self.domain, kind, hex_part(digest)]
        return "/".join(part for part in parts if part) + "/"
