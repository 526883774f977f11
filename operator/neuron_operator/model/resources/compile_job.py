"""The Job that compiles one artifact, once: retries are the operator's, by the class of the failure."""

from neuron_operator.api.objects import JOB, Manifest, annotations_of
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.model.revision import Revision
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.digests import digest_of, short
from neuron_runtime.contract.launch import COMPILE_SPEC_VARIABLE, CompileSpec
from neuron_runtime.contract.origin import VolumeOrigin
from neuron_runtime.contract.progress import PROGRESS_PORT

from . import names
from .ownership import child
from .pods import Resources, container, platform_environment, platform_mounts, pod_spec
from .source_mounts import hub_environment, source_mounts, token_of

ATTEMPT_ANNOTATION = "neuron-operator.dev/attempt"
FAILURES_ANNOTATION = "neuron-operator.dev/failures"
SETTINGS_ANNOTATION = "neuron-operator.dev/compile-settings"

# A pod that is evicted or loses its node has not failed: the Job makes another one.
IGNORE_DISRUPTIONS = {
    "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
}

# What a pod is given to be scheduled, and its image to be pulled.
_START_SECONDS = 1800

_MIB = 1024 * 1024


def compile_job(
    model: NeuronModel, revision: Revision, settings: PlatformSettings, *, attempt: int, failures: int
) -> Manifest:
    """The Job of one attempt.

    Its annotations hold the ledger (which attempt this is, how many counted failures came before, under which settings
    of `spec.compile`) and never change: the newest Job alone is the state of the retries.
    """
    record = revision.record
    labels = {
        names.COMPONENT_LABEL: names.COMPILE_COMPONENT,
        names.REVISION_LABEL: revision.hash,
        names.ARTIFACT_LABEL: names.artifact_label(record.artifact_digest),
    }
    job = child(
        model,
        api_version=JOB.api_version,
        kind=JOB.name,
        name=names.compile_job(model.metadata.name, record.artifact_digest, attempt),
        labels=labels,
        annotations={
            ATTEMPT_ANNOTATION: str(attempt),
            FAILURES_ANNOTATION: str(failures),
            SETTINGS_ANNOTATION: settings_digest(model),
        },
    )
    origin = record.source.origin
    assert origin is not None  # noqa: S101 - what was compiled elsewhere is never compiled
    token = token_of(model)
    mounts = [
        *platform_mounts(settings),
        *source_mounts(token, origin.claim_name if isinstance(origin, VolumeOrigin) else None),
    ]
    spec = CompileSpec(
        request=record.request,
        origin=origin,
        token=token,
        allow_pickle=bool(record.inputs.get("model.allowPickle", False)),
        store=record.store,
        workers=record.compile_workers,
    )
    compiler = container(
        name="compile",
        image=record.compile_image,
        module="neuron_runtime.compile",
        environment={
            **hub_environment(settings),
            **platform_environment(settings),
            COMPILE_SPEC_VARIABLE: spec.to_json(),
        },
        resources=_resources(model, record.compile_memory),
        ports={"progress": PROGRESS_PORT},
        mounts=mounts,
    )
    pod = pod_spec(compiler, service_account=names.COMPILE_SERVICE_ACCOUNT, mounts=mounts)
    pod["restartPolicy"] = "Never"
    # The kubelet holds a pod to its deadline and leaves it there, with what its container said; the Job controller,
    # which deletes it, is only for a pod that does not get to run.
    pod["activeDeadlineSeconds"] = model.spec.compile.timeout_seconds
    job["spec"] = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": _START_SECONDS + model.spec.compile.timeout_seconds,
        "podFailurePolicy": IGNORE_DISRUPTIONS,
        "template": {"metadata": {"labels": {**job["metadata"]["labels"]}}, "spec": pod},
    }
    return job


def attempt_of(job: Manifest) -> int:
    """Which attempt at its artifact a Job is, from 1."""
    return max(1, _whole_number(job, ATTEMPT_ANNOTATION))


def failures_before(job: Manifest) -> int:
    """Failures that counted against compile.retry.maxAttempts before this Job."""
    return _whole_number(job, FAILURES_ANNOTATION)


def settings_digest(model: NeuronModel) -> str:
    """Names what `spec.compile` says about the Job itself: another attempt under other settings may end otherwise."""
    settings = model.spec.compile
    resources = settings.resources.model_dump(mode="json") if settings.resources is not None else None
    return short(digest_of([settings.timeout_seconds, resources]))


def settings_digest_of(job: Manifest) -> str | None:
    """`settings_digest` of the model when the Job was created."""
    return annotations_of(job).get(SETTINGS_ANNOTATION)


def _whole_number(job: Manifest, annotation: str) -> int:
    # Anybody who may edit Jobs may edit annotations; a broken ledger starts anew.
    text = annotations_of(job).get(annotation, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _resources(model: NeuronModel, memory: int) -> Resources:
    asked = model.spec.compile.resources
    if asked is not None:
        return {"requests": asked.requests, "limits": asked.limits}
    return {"requests": {"cpu": "2", "memory": f"{-(-memory // _MIB)}Mi"}}
