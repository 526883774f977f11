"""The Service of a model. Its selector names one revision, so changing that one label switches all traffic."""

from neuron_operator.api.objects import SERVICE, Manifest
from neuron_operator.api.v1alpha1 import NeuronModel
from neuron_runtime.contract.launch import SERVING_PORT

from . import names
from .ownership import child


def service(model: NeuronModel, revision: str) -> Manifest:
    """The Service, selecting the pods of one revision."""
    manifest = child(
        model,
        api_version=SERVICE.api_version,
        kind=SERVICE.name,
        name=names.service(model.metadata.name),
        labels={names.COMPONENT_LABEL: names.SERVING_COMPONENT},
    )
    manifest["spec"] = {
        "type": "ClusterIP",
        "selector": {**names.selector(model.metadata.name), names.REVISION_LABEL: revision},
        "ports": [{"name": "http", "port": SERVING_PORT, "targetPort": "http", "protocol": "TCP"}],
    }
    return manifest


def selected_revision(live: Manifest) -> str:
    """Revision that a live Service selects; empty when somebody took the label out."""
    return str((live["spec"].get("selector") or {}).get(names.REVISION_LABEL, ""))


def endpoint(model: NeuronModel) -> str:
    """Base URL of the OpenAI API inside the cluster."""
    return f"http://{names.service(model.metadata.name)}.{model.metadata.namespace}.svc:{SERVING_PORT}/v1"
