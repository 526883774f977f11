"""Reads the agent's kubeconfig and writes those of pods."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from neuron_localcluster.errors import ClusterError


@dataclass(frozen=True)
class Access:
    """How to reach an API server as whom the token names."""

    server: str
    ssl: ssl.SSLContext
    token: str


def load(path: Path) -> Access:
    """The access that a kubeconfig of `identities.kubeconfig` gives; raises ClusterError when it is none."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = _named(content["contexts"], content["current-context"])["context"]
        cluster = _named(content["clusters"], context["cluster"])["cluster"]
        user = _named(content["users"], context["user"])["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
        return Access(cluster["server"], ssl.create_default_context(cadata=authority), user["token"])
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ClusterError(f"{path} is not a kubeconfig with a usable current context: {error!r}") from error


def pod_kubeconfig(server: str, token_folder: Path, namespace: str) -> str:
    """A kubeconfig for a pod that reads token and authority anew from its service-account volume."""
    name = "in-cluster"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority": str(token_folder / "ca.crt")}}
        ],
        "users": [{"name": name, "user": {"tokenFile": str(token_folder / "token")}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    return yaml.safe_dump(content, sort_keys=False)


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in entries:
        if entry["name"] == name:
            return entry
    raise KeyError(name)
