"""The ServiceAccounts of compile and serving pods: one each per namespace that has a model.

They are shared by all models of the namespace and so owned by none.
"""

from neuron_operator.api.objects import SERVICE_ACCOUNT, Manifest
from neuron_operator.settings import Identities

from . import names


def service_accounts(namespace: str, identities: Identities) -> list[Manifest]:
    """Both accounts with the platform's annotations (for example IRSA's role)."""
    return [
        _service_account(namespace, names.COMPILE_SERVICE_ACCOUNT, identities.compile_annotations),
        _service_account(namespace, names.SERVING_SERVICE_ACCOUNT, identities.serving_annotations),
    ]


def _service_account(namespace: str, name: str, annotations: dict[str, str]) -> Manifest:
    manifest: Manifest = {
        "apiVersion": SERVICE_ACCOUNT.api_version,
        "kind": SERVICE_ACCOUNT.name,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY},
        },
    }
    if annotations:
        manifest["metadata"]["annotations"] = dict(sorted(annotations.items()))
    return manifest
