"""The command lines of etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and how to see them ready."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from neuron_localcluster import identities
from neuron_localcluster.binaries.pins import Binaries
from neuron_localcluster.certificates import Certificates
from neuron_localcluster.identities import Identity
from neuron_localcluster.processes import ProcessSpec

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"

SERVICE_CIDR = "127.96.0.0/16"
SERVER_ADDRESSES = ("127.0.0.1", "127.96.0.1")

# EndpointSlices refuse loopback addresses, and every pod here has one: the node agent carries Services' connections.
_CONTROLLERS = "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"

# Every write is recorded, those of a model's status with what was written; reads only where they are not the control
# plane's own.
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    verbs: [get, list, watch]
    users:
      - system:apiserver
      - system:kube-controller-manager
      - system:kube-scheduler
      - neuron-localcluster:node-agent
  - level: None
    verbs: [get, list, watch]
    userGroups: [system:serviceaccounts:kube-system]
  - level: None
    nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*", "/api*"]
  - level: Request
    verbs: [update, patch]
    resources: [{group: neuron-operator.dev, resources: [neuronmodels/status]}]
  - level: Metadata
"""


@dataclass(frozen=True)
class ControlPlane:
    """One cluster's control plane: its programs, its folder and its ports by process name (etcd's peer: etcd-peer)."""

    binaries: Binaries
    folder: Path
    ports: dict[str, int]
    certificates: Certificates
    tokens: dict[str, str]

    PORTS = (ETCD, "etcd-peer", API_SERVER, CONTROLLER_MANAGER, SCHEDULER)

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports[API_SERVER]}"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit" / "audit.log"

    def kubeconfig(self, identity: Identity) -> Path:
        return self.folder / f"{identity.name}.kubeconfig"

    def write_files(self) -> None:
        """Write what the programs read: kubeconfigs and the audit policy."""
        authority = self.certificates.authority.read_bytes()
        for identity in identities.IDENTITIES:
            text = identities.kubeconfig(self.server, authority, identity, self.tokens[identity.name])
            identities.write_private(self.kubeconfig(identity), text)
        identities.write_private(self._audit_policy, _AUDIT_POLICY)
        self.audit_log.parent.mkdir(parents=True, exist_ok=True)

    def etcd(self) -> ProcessSpec:
        client = f"http://127.0.0.1:{self.ports[ETCD]}"
        peer = f"http://127.0.0.1:{self.ports['etcd-peer']}"
        return ProcessSpec(
            ETCD,
            (
                str(self.binaries.etcd),
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                # Survives the end of the process, not that of the machine: enough here, and far fewer disk writes.
                "--unsafe-no-fsync",
                "--log-level=warn",
            ),
        )

    def api_server(self) -> ProcessSpec:
        key = self.certificates.service_account_key
        return ProcessSpec(
            API_SERVER,
            (
                str(self.binaries.kube_apiserver),
                f"--etcd-servers=http://127.0.0.1:{self.ports[ETCD]}",
                "--bind-address=127.0.0.1",
                # Else it looks for the address of a network interface, and a laptop may be offline.
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                f"--secure-port={self.ports[API_SERVER]}",
                f"--tls-cert-file={self.certificates.server}",
                f"--tls-private-key-file={self.certificates.server_key}",
                f"--token-auth-file={self.folder / 'tokens.csv'}",
                "--authorization-mode=Node,RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                f"--service-cluster-ip-range={SERVICE_CIDR}",
                "--allow-privileged",
                "--kubelet-preferred-address-types=InternalIP",
                f"--audit-policy-file={self._audit_policy}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-maxsize=100",
                "--audit-log-maxbackup=5",
            ),
            inputs=(self.certificates.server, self.folder / "tokens.csv", self._audit_policy),
        )

    def controller_manager(self) -> ProcessSpec:
        return ProcessSpec(
            CONTROLLER_MANAGER,
            (
                str(self.binaries.kube_controller_manager),
                *self._client_flags(identities.CONTROLLER_MANAGER, CONTROLLER_MANAGER),
                f"--service-account-private-key-file={self.certificates.service_account_key}",
                "--use-service-account-credentials",
                f"--root-ca-file={self.certificates.authority}",
                f"--controllers={_CONTROLLERS}",
                # The default of 20 requests a second is what a thousand Jobs would wait for.
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
            ),
            inputs=(self.kubeconfig(identities.CONTROLLER_MANAGER),),
        )

    def scheduler(self) -> ProcessSpec:
        return ProcessSpec(
            SCHEDULER,
            (str(self.binaries.kube_scheduler), *self._client_flags(identities.SCHEDULER, SCHEDULER)),
            inputs=(self.kubeconfig(identities.SCHEDULER),),
        )

    def etcd_is_ready(self) -> bool:
        return answers(f"http://127.0.0.1:{self.ports[ETCD]}/health")

    def api_server_is_ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        return answers(f"{self.server}/readyz", context)

    def controller_manager_is_ready(self) -> bool:
        return self._serves_health(CONTROLLER_MANAGER)

    def scheduler_is_ready(self) -> bool:
        return self._serves_health(SCHEDULER)

    @property
    def _audit_policy(self) -> Path:
        return self.folder / "audit-policy.yaml"

    def _client_flags(self, identity: Identity, name: str) -> tuple[str, ...]:
        return (
            f"--kubeconfig={self.kubeconfig(identity)}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports[name]}",
            f"--tls-cert-file={self.certificates.server}",
            f"--tls-private-key-file={self.certificates.server_key}",
        )

    def _serves_health(self, name: str) -> bool:
        context = ssl.create_default_context(cafile=str(self.certificates.authority))
        return answers(f"https://127.0.0.1:{self.ports[name]}/healthz", context)


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether a local server answers with success at that address."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=2) as response:
            return bool(200 <= response.status < 300)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
