"""The Deployment that serves one revision. It is rendered once, when the revision is recorded."""

from neuron_operator.api.objects import DEPLOYMENT, Manifest
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.launch import SERVING_GRACE_SECONDS, SERVING_PORT, SERVING_SPEC_VARIABLE, ServingSpec

from . import names
from .ownership import child
from .pods import Resources, container, platform_environment, platform_mounts, pod_spec

ARTIFACT_ANNOTATION = "neuron-operator.dev/artifact"

_MIB = 1024 * 1024
# Loading is bounded by the download of the artifact; the kubelet waits this long before it calls a start failed.
_STARTUP_PERIOD_SECONDS = 5
_STARTUP_FAILURES = 360


def rendered_deployment(
    model: NeuronModel, revision: str, spec: ServingSpec, settings: PlatformSettings, *, memory: int
) -> Manifest:
    """The Deployment without what may change while the revision lives: replicas and the artifact's facts."""
    labels = {
        names.COMPONENT_LABEL: names.SERVING_COMPONENT,
        names.REVISION_LABEL: revision,
        names.ARTIFACT_LABEL: names.artifact_label(spec.artifact_digest),
    }
    deployment = child(
        model,
        api_version=DEPLOYMENT.api_version,
        kind=DEPLOYMENT.name,
        name=names.deployment(model.metadata.name, revision),
        labels=labels,
    )
    mounts = platform_mounts(settings)
    server = container(
        name="server",
        image=settings.cpu.serving_image,
        module="neuron_runtime.serve",
        environment={**platform_environment(settings), SERVING_SPEC_VARIABLE: spec.to_json()},
        resources=_resources(model, memory),
        ports={"http": SERVING_PORT},
        mounts=mounts,
    )
    server |= {
        "startupProbe": {
            **_probe("/healthz", _STARTUP_PERIOD_SECONDS),
            "failureThreshold": _STARTUP_FAILURES,
        },
        "livenessProbe": {**_probe("/healthz", 10), "failureThreshold": 6},
        "readinessProbe": {**_probe("/readyz", 1), "failureThreshold": 3},
    }
    pod = pod_spec(server, service_account=names.SERVING_SERVICE_ACCOUNT, mounts=mounts)
    pod["terminationGracePeriodSeconds"] = SERVING_GRACE_SECONDS
    deployment["spec"] = {
        "selector": {"matchLabels": {**names.selector(model.metadata.name), names.REVISION_LABEL: revision}},
        "template": {"metadata": {"labels": {**deployment["metadata"]["labels"]}}, "spec": pod},
    }
    return deployment


def with_scale(rendered: Manifest, replicas: int) -> Manifest:
    """The rendered Deployment with a number of replicas."""
    return {**rendered, "spec": {**rendered["spec"], "replicas": replicas}}


def with_artifact(rendered: Manifest, artifact: str) -> Manifest:
    """The rendered Deployment with the artifact's facts, a JSON document, in an annotation of its own."""
    metadata = rendered["metadata"]
    annotations = {**(metadata.get("annotations") or {}), ARTIFACT_ANNOTATION: artifact}
    return {**rendered, "metadata": {**metadata, "annotations": annotations}}


def _probe(path: str, period: int) -> Manifest:
    return {"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, "periodSeconds": period, "timeoutSeconds": 2}


def _resources(model: NeuronModel, memory: int) -> Resources:
    asked = model.spec.serving.resources
    if asked is not None:
        return {"requests": asked.requests, "limits": asked.limits}
    mebibytes = -(-memory // _MIB)
    return {
        "requests": {"cpu": "1", "memory": f"{mebibytes}Mi"},
        "limits": {"memory": f"{mebibytes + mebibytes // 4}Mi"},
    }
