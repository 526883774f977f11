"""All names and labels of child objects, in one place.

A NeuronModel's name has at most 45 characters (a rule of the CRD), so that every name here keeps within 63 and can
stand in a label as well.
"""

from neuron_runtime.contract.digests import Digest, hex_part, short

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "neuron-operator"
COMPONENT_LABEL = "app.kubernetes.io/component"
MODEL_LABEL = "neuron-operator.dev/model"
REVISION_LABEL = "neuron-operator.dev/revision"
ARTIFACT_LABEL = "neuron-operator.dev/artifact"
INSPECTION_LABEL = "neuron-operator.dev/inspection"

COMPILE_COMPONENT = "compile"
INSPECT_COMPONENT = "inspect"
SERVING_COMPONENT = "serving"

COMPILE_SERVICE_ACCOUNT = "neuron-compile"
SERVING_SERVICE_ACCOUNT = "neuron-serving"

_ARTIFACT_LABEL_LENGTH = 40


def controller_revision(model: str, revision: str) -> str:
    """ControllerRevision that records a revision."""
    return f"{model}-{revision}"


def deployment(model: str, revision: str) -> str:
    """Deployment that serves a revision."""
    return f"{model}-{revision}"


def service(model: str) -> str:
    """Service of a model; it selects one revision at a time."""
    return model


def compile_job(model: str, artifact: Digest, attempt: int) -> str:
    """Job of one attempt at an artifact. The Job controller adds six characters to it for the pod."""
    return f"{model}-{short(artifact, 8)}-{attempt}"


def inspect_job(model: str, inspection: str, attempt: int) -> str:
    """Job of one attempt at inspecting a source. `inspection` has eight characters."""
    return f"{model}-src{inspection}-{attempt}"


def artifact_label(artifact: Digest) -> str:
    """The artifact's digest as a label value: labels hold 63 characters, a digest has 64."""
    return hex_part(artifact)[:_ARTIFACT_LABEL_LENGTH]


def selector(model: str) -> dict[str, str]:
    """Labels of all serving pods of a model, whatever their revision."""
    return {MODEL_LABEL: model, COMPONENT_LABEL: SERVING_COMPONENT}
