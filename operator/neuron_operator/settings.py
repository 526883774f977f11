"""Platform settings: what the platform's owners decide once, apart from any model.

The chart renders them into a ConfigMap that is mounted as one YAML file. Tenants cannot reach them: endpoints, images
and the sharing of artifacts are decisions of trust.
"""

from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from pydantic.alias_generators import to_camel


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")


class ArtifactSharing(str, Enum):
    """Who shares compiled artifacts: the models of one namespace, or all of the cluster."""

    NAMESPACE = "Namespace"
    CLUSTER = "Cluster"


class DefaultStore(_Settings):
    """Store of models that name none."""

    bucket: str
    prefix: str = ""
    region: str | None = None


class HuggingFaceSettings(_Settings):
    """The hub that the operator reads anonymous metadata from."""

    endpoint: str = "https://huggingface.co"


class CPUEngineSettings(_Settings):
    """Images of the CPU engine, and the toolchain in them that is part of every artifact's digest."""

    compile_image: str
    serving_image: str
    toolchain: dict[str, str]


class Identities(_Settings):
    """ServiceAccounts for compile and serving pods, applied in each namespace that has a model."""

    manage: bool = True
    compile_annotations: dict[str, str] = Field(default_factory=dict)
    serving_annotations: dict[str, str] = Field(default_factory=dict)


class ProxySettings(_Settings):
    """The proxy that pods reach hubs and AWS through. Empty: none."""

    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""


class TrustedCertificates(_Settings):
    """Certificates that pods trust, as one PEM file: the system's and those of the platform.

    A ConfigMap of this name has to be in every namespace that has a model; trust-manager, for example, puts it there.
    """

    config_map_name: str
    key: str = "ca.crt"


class PlatformSettings(_Settings):
    """All platform settings. Unknown names are an error, so that a typing mistake does not go unnoticed."""

    artifact_sharing: ArtifactSharing = ArtifactSharing.NAMESPACE
    default_artifact_store: DefaultStore | None = None
    hugging_face: HuggingFaceSettings = HuggingFaceSettings()
    cpu: CPUEngineSettings
    identities: Identities = Identities()
    proxy: ProxySettings = ProxySettings()
    trusted_certificates: TrustedCertificates | None = None
    pod_environment: dict[str, str] = Field(default_factory=dict)
    """Further environment of inspect, compile and serving pods, such as endpoints."""
    workers: PositiveInt = 32
    """Models that are reconciled at the same time."""


def load(path: Path) -> PlatformSettings:
    """Read the settings. Raises OSError, or pydantic's ValidationError naming the field."""
    document: Any = yaml.safe_load(path.read_text())
    return PlatformSettings.model_validate(document or {})
