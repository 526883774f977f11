"""A revision: everything that was decided when a spec was first acted on, kept in a ControllerRevision.

A revision that exists is applied from its record and never decided anew. So an upgrade of the operator, a new default
image or a moved branch restarts nobody's pods; new code affects new revisions only.

Who may write ControllerRevisions of a namespace may write anything into them. So a record decides what serves, never
whose object that is or where it lies, and a store of another namespace makes it unreadable.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from neuron_operator.api.impact import revision_inputs
from neuron_operator.api.objects import CONTROLLER_REVISION, DEPLOYMENT, Manifest, annotations_of
from neuron_operator.api.status import ArtifactStatus, PlanStatus, SourceStatus
from neuron_operator.api.v1alpha1 import NeuronModel, NeuronModelSpec
from neuron_runtime.contract.digests import ContractModel, Digest
from neuron_runtime.contract.origin import Origin
from neuron_runtime.contract.request import CompileRequest
from neuron_runtime.contract.store import StoreLocation

from .resources import names
from .resources.ownership import child

COMPILED_ELSEWHERE = "CompiledArtifact"
"""Kind of a source that came with an artifact."""
UPSTREAM_ANNOTATION = "neuron-operator.dev/upstream-commit"
"""On a ControllerRevision: another commit that its branch or tag names by now."""

# Whoever may edit the object could write anything there, and it is told again.
_COMMIT = re.compile(r"[0-9a-f]{1,64}")

SHARED_DOMAIN = "shared"
"""Sharing domain of a store that all namespaces share."""


def namespace_domain(namespace: str) -> str:
    """Sharing domain of a store that one namespace has for itself."""
    return f"ns/{namespace}"


class RecordedSource(ContractModel):
    """The source as it was pinned."""

    origin: Origin | None = None
    """Where the compile Job reads it; None for an artifact that was compiled elsewhere."""
    location: str
    """The same for people."""
    requested_revision: str | None = None
    """Branch, tag or commit that the spec names; of a repository alone."""
    commit: str = ""
    """Empty where there are none."""
    digest: Digest
    size_bytes: int

    @model_validator(mode="before")
    @classmethod
    def _knows_records_of_repositories_alone(cls, data: Any) -> Any:
        """Read what was written when all sources were repositories of the platform's hub."""
        if isinstance(data, dict) and "repo" in data:
            origin = {"kind": "HuggingFace", "repo": data["repo"], "commit": data.get("commit")}
            return {"origin": origin, "location": data["repo"], **data}
        return data

    def to_status(self, upstream_commit: str | None = None) -> SourceStatus:
        """The source as `status` shows it."""
        return SourceStatus(
            kind=self.origin.kind if self.origin is not None else COMPILED_ELSEWHERE,
            location=self.location,
            requested_revision=self.requested_revision,
            commit=self.commit or None,
            upstream_commit=upstream_commit,
            digest=self.digest,
            size_bytes=self.size_bytes,
        )


class RevisionRecord(ContractModel):
    """Facts that a revision keeps for its life."""

    contract_version: Literal[1] = 1
    inputs: dict[str, Any]
    """The leaves of the spec that name the revision."""
    source: RecordedSource
    plan: PlanStatus
    request: CompileRequest
    artifact_digest: Digest
    artifact: ArtifactStatus | None = None
    """Facts of an artifact that was compiled elsewhere. It lies in `store`, which may be anybody's then: only pods read
    it, with rights of their own."""
    store: StoreLocation
    compile_image: str
    compile_memory: int
    """Bytes that the compile Job asks for unless the spec says otherwise."""
    compile_workers: int
    deployment: Manifest
    """The serving Deployment as it was rendered, without replicas."""

    @field_validator("store")
    @classmethod
    def _belongs_to_the_namespace(cls, store: StoreLocation, info: ValidationInfo) -> StoreLocation:
        namespace = (info.context or {}).get("namespace")
        if info.data.get("artifact") is not None:
            return store
        if namespace is not None and store.domain not in (SHARED_DOMAIN, namespace_domain(namespace)):
            raise ValueError(f"{store.domain} is the sharing domain of another namespace")
        return store

    @field_validator("deployment")
    @classmethod
    def _says_what_serves(cls, deployment: Manifest) -> Manifest:
        if not isinstance(deployment.get("spec"), dict) or not isinstance(deployment.get("metadata"), dict):
            raise ValueError("a Deployment has metadata and a spec")
        return deployment


def fits(record: RevisionRecord, spec: NeuronModelSpec) -> bool:
    """Whether the spec asks for what was recorded. A choice that either leaves to the planner is met by its answer."""
    chosen = {"runtime.engine": record.plan.engine, "hardware.target": record.plan.target}
    return {**chosen, **record.inputs} == {**chosen, **revision_inputs(spec)}


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

    @property
    def upstream_commit(self) -> str | None:
        """Another commit that its branch or tag names by now."""
        found = annotations_of(self.manifest).get(UPSTREAM_ANNOTATION, "")
        return found if _COMMIT.fullmatch(found) else None


def parse_revision(manifest: Manifest) -> Revision:
    """Read a ControllerRevision of ours. Raises pydantic's ValidationError when it is not one of ours after all, or
    was written by a release that this one cannot read."""
    return Revision(
        model=parent_name(manifest),
        hash=manifest["metadata"]["name"].rpartition("-")[2],
        number=int(manifest["revision"]),
        record=RevisionRecord.model_validate(
            manifest.get("data"), context={"namespace": manifest["metadata"]["namespace"]}
        ),
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


def recorded_deployment(model: NeuronModel, revision: Revision) -> Manifest:
    """The Deployment of the record, as a child of the model in its own namespace whatever the record says of that."""
    recorded = revision.record.deployment
    manifest = child(
        model,
        api_version=DEPLOYMENT.api_version,
        kind=DEPLOYMENT.name,
        name=names.deployment(model.metadata.name, revision.hash),
        labels=recorded["metadata"].get("labels") or {},
    )
    return {**manifest, "spec": recorded["spec"]}
