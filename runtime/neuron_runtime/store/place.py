"""Where a manifest lies in the store, how it is read, and what is said when it is not there or not right."""

import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import ValidationError

from neuron_runtime.contract.artifact import ArtifactManifest
from neuron_runtime.contract.digests import Digest
from neuron_runtime.contract.outcome import ContainerFailure, FailureCode
from neuron_runtime.contract.source import SourceManifest
from neuron_runtime.contract.store import MANIFEST, StoreLocation

M = TypeVar("M", ArtifactManifest, SourceManifest)


@dataclass(frozen=True)
class Place(Generic[M]):
    """Where an artifact or a source snapshot lies, and what it is called when it is not there or not right."""

    what: str
    digest: Digest
    location: StoreLocation
    prefix: str
    kind: type[M]
    missing_code: FailureCode
    damaged_code: FailureCode

    @property
    def key(self) -> str:
        """Key of the manifest."""
        return self.prefix + MANIFEST

    @property
    def uri(self) -> str:
        """Where the manifest lies, for people."""
        return self.location.uri(self.key)

    def missing(self) -> ContainerFailure:
        """That there is no manifest."""
        return ContainerFailure(
            self.missing_code, f"{self.what} {self.digest} is not committed: there is no {self.uri}"
        )

    def damaged(self, finding: str) -> ContainerFailure:
        """That what is there is not what it should be."""
        return ContainerFailure(self.damaged_code, f"{self.uri} is damaged: {finding}")

    def parse(self, body: bytes) -> M:
        """The manifest in `body`. Raises ContainerFailure."""
        try:
            return self.kind.model_validate_json(body)
        except ValidationError as error:
            raise self._unreadable(body, error) from error

    def _unreadable(self, body: bytes, error: ValidationError) -> ContainerFailure:
        try:
            version = json.loads(body).get("contractVersion")
        except (ValueError, AttributeError):
            return self.damaged("it is not a JSON object")
        if version not in (None, 1):
            return ContainerFailure(
                FailureCode.ARTIFACT_INCOMPATIBLE,
                f"{self.uri} has contract version {version}; this image reads version 1",
            )
        first = error.errors()[0]
        return self.damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
