"""A revision: everything that was decided when a spec was first acted on, kept in a ControllerRevision.

A revision that exists is applied from its record and never decided anew. So an upgrade of the operator, a new default
image or a moved branch restarts nobody's pods; new code affects new revisions only.
"""

from dataclasses import dataclass
from typing import Any, Literal

from neuron_operator.api.objects import CONTROLLER_REVISION, Manifest
from neuron_operator.api.status import PlanStatus, SourceStatus
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_runtime.contract.digests import ContractModel, Digest
from neuron_runtime.contract.request import CompileRequest
from neuron_runtime.contract.store import StoreLocation

from .resources import names
from .resources.ownership import child

SHARED_DOMAIN = "shared"
"""Sharing domain of a store that all namespaces share."""


def namespace_domain(namespace: str) -> str:
    """Sharing domain of a store that one namespace has for itself."""
    return f"ns/{namespace}"


class RecordedSource(ContractModel):
    """The source as it was pinned."""

    repo: str
    requested_revision: str
    commit: str
    digest: Digest
    size_bytes: int

    def to_status(self) -> SourceStatus:
        """The source as `status` shows it."""
        return SourceStatus(**self.model_dump())


class RevisionRecord(ContractModel):
    """Facts that a revision keeps for its life."""

    contract_version: Literal[1] = 1
    inputs: dict[str, Any]
    """The leaves of the spec that name the revision, for people."""
    source: RecordedSource
    plan: PlanStatus
    request: CompileRequest
    artifact_digest: Digest
    store: StoreLocation
    compile_image: str
    compile_memory: int
    """Bytes that the compile Job asks for unless the spec says otherwise."""
    compile_workers: int
    deployment: Manifest
    """The serving Deployment as it was rendered, without replicas."""


@dataclass(frozen=True)
class Revision:
    """A recorded revision."""

    model: str
    """Name of the model."""
    hash: str
    number: int
    """Rises with each revision of a model."""
    record: RevisionRecord
    manifest: Manifest

    @property
    def name(self) -> str:
        """Name of the ControllerRevision."""
        return str(self.manifest["metadata"]["name"])


def parse_revision(manifest: Manifest) -> Revision:
    """Read a ControllerRevision of ours. Raises pydantic's ValidationError when it is not one of ours after all."""
    return Revision(
        model=parent_name(manifest),
        hash=manifest["metadata"]["name"].rpartition("-")[2],
        number=int(manifest["revision"]),
        record=RevisionRecord.model_validate(manifest.get("data")),
        manifest=manifest,
    )


def parent_name(manifest: Manifest) -> str:
    """Name of the model that a ControllerRevision belongs to: from its name, as labels can be edited."""
    return str(manifest["metadata"]["name"].rpartition("-")[0])


def controller_revision(model: NeuronModel, revision: str, number: int, record: RevisionRecord) -> Manifest:
    """The ControllerRevision that keeps a record."""
    manifest = child(
        model,
        api_version=CONTROLLER_REVISION.api_version,
        kind=CONTROLLER_REVISION.name,
        name=names.controller_revision(model.metadata.name, revision),
        labels={
            names.REVISION_LABEL: revision,
            names.ARTIFACT_LABEL: names.artifact_label(record.artifact_digest),
        },
    )
    return {**manifest, "revision": number, "data": record.to_document()}
