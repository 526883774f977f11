"""How to reach the API server: from KUBECONFIG where it is set, else from the pod's service account.

Own code, because `kubernetes.aio` reads a `tokenFile` once, and kopf needs the same credentials in another form.
"""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import yaml

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoClusterAccess(Exception):
    """There is no usable way to an API server. The message names what was looked at."""


@dataclass(frozen=True)
class ClusterAccess:
    """An API server and the credentials for it."""

    server: str
    ca_file: str | None = None
    ca_data: str | None = None
    """PEM."""
    token: str | None = None
    token_file: str | None = None
    """Read anew for each use: projected tokens are replaced before they expire."""
    certificate_file: str | None = None
    key_file: str | None = None
    insecure: bool = False

    def current_token(self) -> str | None:
        """The bearer token that is valid now; None when certificates are used."""
        if self.token_file is not None:
            return Path(self.token_file).read_text().strip()
        return self.token

    def is_behind_proxy(self) -> bool:
        """Whether the environment names a proxy for this server.

        Only then may clients look at the environment: aiohttp does so in threads, twice for each request, and refuses
        every request to a server for which a `.netrc` has a password, since ours carry a token already.
        """
        url = urlsplit(self.server)
        return url.scheme in getproxies() and not proxy_bypass(url.hostname or "")

    def connection(self) -> dict[str, Any]:
        """The same as arguments of `kopf.ConnectionInfo`."""
        return {
            "server": self.server,
            "ca_path": self.ca_file,
            "ca_data": self.ca_data,
            "token": self.current_token(),
            "certificate_path": self.certificate_file,
            "private_key_path": self.key_file,
            "insecure": self.insecure or None,
            # As every other Kubernetes client does: through a proxy where one is set.
            "trust_env": self.is_behind_proxy(),
        }


def cluster_access() -> ClusterAccess:
    """Find the API server. Raises NoClusterAccess."""
    path = os.environ.get("KUBECONFIG")
    if path:
        return _from_kubeconfig(Path(path))
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (_SERVICE_ACCOUNT / "token").is_file():
        raise NoClusterAccess(
            "KUBECONFIG is not set, and this is not a pod with a service account token; set KUBECONFIG to a file"
        )
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ClusterAccess(server, ca_file=str(_SERVICE_ACCOUNT / "ca.crt"), token_file=str(_SERVICE_ACCOUNT / "token"))


def _from_kubeconfig(path: Path) -> ClusterAccess:
    try:
        document = yaml.safe_load(path.read_text())
        context = _named(document["contexts"], document["current-context"])["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        user = _named(document["users"], context["user"])["user"]
        server = str(cluster["server"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise NoClusterAccess(f"KUBECONFIG={path} cannot be used: {error!r}") from error
    if "exec" in user or "client-certificate-data" in user:
        raise NoClusterAccess(
            f"KUBECONFIG={path}: credentials by exec or client-certificate-data are not read here; "
            "use token, tokenFile, or client-certificate and client-key"
        )

    def resolved(name: str | None) -> str | None:
        return str(path.parent / name) if name else None

    ca_data = cluster.get("certificate-authority-data")
    return ClusterAccess(
        server,
        ca_file=resolved(cluster.get("certificate-authority")),
        ca_data=base64.b64decode(ca_data).decode() if ca_data else None,
        token=user.get("token"),
        token_file=resolved(user.get("tokenFile")),
        certificate_file=resolved(user.get("client-certificate")),
        key_file=resolved(user.get("client-key")),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
    )


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)
