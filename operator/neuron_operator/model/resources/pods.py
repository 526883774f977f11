"""What compile and serving pods have in common: the `restricted` security profile, a work folder, the environment."""

from collections.abc import Mapping
from typing import Any

from neuron_operator.api.objects import Manifest
from neuron_runtime.contract.launch import TERMINATION_MESSAGE_PATH_VARIABLE, WORK_DIR_VARIABLE

_WORK_DIR = "/var/lib/neuron"
_TERMINATION_MESSAGE_PATH = "/dev/termination-log"
_USER = 65532

Resources = Mapping[str, Mapping[str, str]]


def pod_spec(container: Manifest, *, service_account: str) -> Manifest:
    """A pod of one container, with the work folder that the container mounts."""
    return {
        "serviceAccountName": service_account,
        # Neither pod talks to the API server; AWS credentials come from a token of their own (IRSA, Pod Identity).
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }


def container(
    *,
    name: str,
    image: str,
    module: str,
    environment: Mapping[str, str],
    resources: Resources,
    ports: Mapping[str, int],
) -> dict[str, Any]:
    """A container that runs one of the runtime's entry points."""
    variables = {
        **environment,
        WORK_DIR_VARIABLE: _WORK_DIR,
        TERMINATION_MESSAGE_PATH_VARIABLE: _TERMINATION_MESSAGE_PATH,
    }
    return {
        "name": name,
        "image": image,
        "command": ["python", "-m", module],
        "env": [_variable(key, variables[key]) for key in sorted(variables)],
        "ports": [{"name": key, "containerPort": ports[key], "protocol": "TCP"} for key in sorted(ports)],
        "resources": {key: dict(value) for key, value in sorted(resources.items()) if value},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": _TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "work", "mountPath": _WORK_DIR}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _variable(name: str, value: str) -> dict[str, str]:
    # The API server leaves an empty value out; written, it would differ from what lives for ever.
    return {"name": name, "value": value} if value else {"name": name}
