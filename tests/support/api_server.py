"""Ways to the API server of the run's cluster: as administrator, or as somebody with few rights."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuron_localcluster.cluster import Cluster
from neuron_operator.kube.access import ClusterAccess, cluster_access
from support.kubectl import Kubectl


def access_by(kubeconfig: Path) -> ClusterAccess:
    """What the operator makes of a KUBECONFIG."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        return cluster_access()


def limited_kubeconfig(
    cluster: Cluster, kubectl: Kubectl, namespace: str, folder: Path, rules: list[dict[str, Any]]
) -> tuple[Path, str]:
    """A KUBECONFIG with a `tokenFile`, of a service account with these rights cluster-wide; and its user name."""
    name = f"limited-{secrets.token_hex(4)}"
    kubectl("create", "serviceaccount", name, f"--namespace={namespace}")
    api = "rbac.authorization.k8s.io"
    kubectl(
        "create",
        "-f",
        "-",
        document={
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
                {
                    "apiVersion": f"{api}/v1",
                    "kind": "ClusterRoleBinding",
                    "metadata": {"name": name},
                    "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
                    "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
                },
            ],
        },
    )
    (folder / "token").write_text(kubectl("create", "token", name, f"--namespace={namespace}"))
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in document["users"]:
        user["user"] = {"tokenFile": "token"}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path, f"system:serviceaccount:{namespace}:{name}"
