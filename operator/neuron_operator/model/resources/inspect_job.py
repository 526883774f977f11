"""The Job that looks at a source which the operator may not, or cannot, read itself.

It runs with the tenant's rights: its token, its claim, the compile ServiceAccount. What it finds stands in its pod's
termination message, and there alone until a revision is recorded.
"""

from neuron_operator.api.model_source import CompiledArtifactSource, ModelSource
from neuron_operator.api.objects import JOB, Manifest
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.digests import digest_of, short
from neuron_runtime.contract.inspection import CompiledArtifact, HuggingFaceRevision, InspectSpec, InspectTarget
from neuron_runtime.contract.launch import INSPECT_SPEC_VARIABLE
from neuron_runtime.contract.origin import S3Origin, VolumeOrigin
from neuron_runtime.contract.store import StoreLocation

from . import names
from .compile_job import ATTEMPT_ANNOTATION, FAILURES_ANNOTATION, IGNORE_DISRUPTIONS
from .ownership import child
from .pods import container, platform_environment, platform_mounts, pod_spec
from .source_mounts import hub_environment, source_mounts, token_of

# Listing and config.json take seconds; hashing the files of a claim takes as long as reading them.
_TIMEOUT_SECONDS = 1800
_START_SECONDS = 1800
_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "256Mi"},
    "limits": {"memory": "512Mi"},
}


def inspect_spec(model: NeuronModel) -> InspectSpec:
    """What is to be inspected. Raises ValueError for an artifact's address that contradicts its digest."""
    source = model.spec.model
    return InspectSpec(target=_target(source), token=token_of(model), allow_pickle=source.allow_pickle)


def inspection_of(spec: InspectSpec) -> str:
    """Names what is asked: an answer to something else is no answer."""
    return short(digest_of(spec.to_document()), 8)


def inspect_job(
    model: NeuronModel, spec: InspectSpec, settings: PlatformSettings, *, attempt: int, failures: int
) -> Manifest:
    """The Job of one attempt. Its annotations hold the ledger, as a compile Job's do."""
    inspection = inspection_of(spec)
    job = child(
        model,
        api_version=JOB.api_version,
        kind=JOB.name,
        name=names.inspect_job(model.metadata.name, inspection, attempt),
        labels={names.COMPONENT_LABEL: names.INSPECT_COMPONENT, names.INSPECTION_LABEL: inspection},
        annotations={ATTEMPT_ANNOTATION: str(attempt), FAILURES_ANNOTATION: str(failures)},
    )
    claim_name = spec.target.claim_name if isinstance(spec.target, VolumeOrigin) else None
    mounts = [*platform_mounts(settings), *source_mounts(spec.token, claim_name)]
    inspector = container(
        name="inspect",
        image=settings.cpu.compile_image,
        module="neuron_runtime.inspect",
        environment={
            **hub_environment(settings),
            **platform_environment(settings),
            INSPECT_SPEC_VARIABLE: spec.to_json(),
        },
        resources=_RESOURCES,
        ports={},
        mounts=mounts,
    )
    pod = pod_spec(inspector, service_account=names.COMPILE_SERVICE_ACCOUNT, mounts=mounts)
    pod["restartPolicy"] = "Never"
    pod["activeDeadlineSeconds"] = _TIMEOUT_SECONDS
    job["spec"] = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": _START_SECONDS + _TIMEOUT_SECONDS,
        "podFailurePolicy": IGNORE_DISRUPTIONS,
        "template": {"metadata": {"labels": {**job["metadata"]["labels"]}}, "spec": pod},
    }
    return job


def artifact_location(source: CompiledArtifactSource) -> StoreLocation:
    """The store that an artifact's address names. Raises ValueError when address and digest contradict each other."""
    found = StoreLocation.of_artifact(source.uri)
    if found is None or found[1] != source.digest:
        raise ValueError(f"{source.uri} is not where an artifact of digest {source.digest} lies")
    return found[0]


def _target(source: ModelSource) -> InspectTarget:
    if source.hugging_face is not None:
        return HuggingFaceRevision(
            repo=source.hugging_face.repo,
            revision=source.hugging_face.revision,
            endpoint=source.hugging_face.endpoint,
        )
    if source.s3 is not None:
        bucket, _, prefix = source.s3.uri.removeprefix("s3://").partition("/")
        return S3Origin(bucket=bucket, prefix=prefix.rstrip("/"), region=source.s3.region)
    if source.persistent_volume_claim is not None:
        claim = source.persistent_volume_claim
        return VolumeOrigin(claim_name=claim.claim_name, path=claim.path.rstrip("/"))
    assert source.compiled_artifact is not None  # noqa: S101 - the schema demands one of the four
    return CompiledArtifact(store=artifact_location(source.compiled_artifact), digest=source.compiled_artifact.digest)
