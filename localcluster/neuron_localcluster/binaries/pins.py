"""Which programs a cluster runs, in which versions, and what their bytes must hash to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KUBERNETES_VERSION = "v1.34.4"
KUBERNETES_MINOR = "v1.34."
ETCD_VERSION = "3.6.4"
KUBECTL_VERSION = "v1.34.5"
HELM_VERSION = "v4.1.4"

SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
CLIENTS = ("kubectl", "helm")


@dataclass(frozen=True)
class Binaries:
    """The folders that hold a complete set of programs."""

    servers: Path
    clients: Path

    @property
    def etcd(self) -> Path:
        return self.servers / "etcd"

    @property
    def kube_apiserver(self) -> Path:
        return self.servers / "kube-apiserver"

    @property
    def kube_controller_manager(self) -> Path:
        return self.servers / "kube-controller-manager"

    @property
    def kube_scheduler(self) -> Path:
        return self.servers / "kube-scheduler"

    @property
    def kubectl(self) -> Path:
        return self.clients / "kubectl"

    @property
    def helm(self) -> Path:
        return self.clients / "helm"
