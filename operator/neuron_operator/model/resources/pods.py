"""What our pods have in common: the `restricted` security profile, a work folder, the environment, the platform's
proxy and certificates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuron_operator.api.objects import Manifest
from neuron_operator.settings import PlatformSettings
from neuron_runtime.contract.launch import TERMINATION_MESSAGE_PATH_VARIABLE, WORK_DIR_VARIABLE

_WORK_DIR = "/var/lib/neuron"
_TERMINATION_MESSAGE_PATH = "/dev/termination-log"
_USER = 65532

_CERTIFICATES_DIR = "/etc/neuron-operator/certificates"
_CERTIFICATES_FILE = "ca.crt"
# OpenSSL and httpx (which reads the hub), requests, boto3, curl: each has a name of its own for the same file.
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE")

# What hands out credentials (EKS Pod Identity over IPv4 and IPv6, the instance) is on the node, behind no proxy.
_DIRECT = ("169.254.170.23", "fd00:ec2::23", "169.254.169.254", "localhost", "127.0.0.1", "::1")

Resources = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Mount:
    """A volume that a container mounts, and the variables that tell it where."""

    name: str
    source: Mapping[str, Any]
    """The volume without its name."""
    path: str
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment by name."""

    @property
    def volume(self) -> dict[str, Any]:
        """As a pod lists it."""
        return {"name": self.name, **self.source}

    @property
    def volume_mount(self) -> dict[str, Any]:
        """As a container lists it. Nothing of this kind is written to."""
        return {"name": self.name, "mountPath": self.path, "readOnly": True}


def platform_environment(settings: PlatformSettings) -> dict[str, str]:
    """Environment of our pods that the platform decides: its variables, and its proxy under both spellings."""
    proxy = settings.proxy
    given = {"HTTP_PROXY": proxy.http_proxy, "HTTPS_PROXY": proxy.https_proxy}
    variables = {name: value for name, value in given.items() if value}
    if variables:
        variables["NO_PROXY"] = ",".join(filter(None, (proxy.no_proxy, *_DIRECT)))
    return {**variables, **{name.lower(): value for name, value in variables.items()}, **settings.pod_environment}


def platform_mounts(settings: PlatformSettings) -> list[Mount]:
    """The certificates that the platform trusts; none where it adds none to those of the image."""
    trusted = settings.trusted_certificates
    if trusted is None:
        return []
    file = f"{_CERTIFICATES_DIR}/{_CERTIFICATES_FILE}"
    source = {
        "configMap": {"name": trusted.config_map_name, "items": [{"key": trusted.key, "path": _CERTIFICATES_FILE}]}
    }
    return [Mount("certificates", source, _CERTIFICATES_DIR, dict.fromkeys(_CERTIFICATE_VARIABLES, file))]


def pod_spec(container: Manifest, *, service_account: str, mounts: Sequence[Mount] = ()) -> Manifest:
    """A pod of one container, with the work folder and whatever else the container mounts."""
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
        "volumes": [
            {"name": "work", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            *(mount.volume for mount in mounts),
        ],
    }


def container(
    *,
    name: str,
    image: str,
    module: str,
    environment: Mapping[str, str],
    resources: Resources,
    ports: Mapping[str, int],
    mounts: Sequence[Mount] = (),
) -> dict[str, Any]:
    """A container that runs one of the runtime's entry points."""
    variables = {
        **environment,
        **{name: value for mount in mounts for name, value in mount.variables.items()},
        WORK_DIR_VARIABLE: _WORK_DIR,
        TERMINATION_MESSAGE_PATH_VARIABLE: _TERMINATION_MESSAGE_PATH,
    }
    return {
        "name": name,
        "image": image,
        "command": ["python", "-m", module],
        "env": [_variable(key, variables[key]) for key in sorted(variables)],
        **_ports(ports),
        "resources": {key: dict(value) for key, value in sorted(resources.items()) if value},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": _TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "work", "mountPath": _WORK_DIR},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *(mount.volume_mount for mount in mounts),
        ],
    }


def _ports(ports: Mapping[str, int]) -> dict[str, Any]:
    # The API server leaves an empty list out.
    listed = [{"name": key, "containerPort": ports[key], "protocol": "TCP"} for key in sorted(ports)]
    return {"ports": listed} if listed else {}


def _variable(name: str, value: str) -> dict[str, str]:
    # The API server leaves an empty value out; written, it would differ from what lives for ever.
    return {"name": name, "value": value} if value else {"name": name}
