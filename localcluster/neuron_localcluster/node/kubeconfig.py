"""Reads the agent's kubeconfig and writes those of pods."""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from neuron_localcluster.errors import ClusterError


@dataclass(frozen=True)
class Access:
    """How to reach an API server; `ssl` carries the client certificate when there is one. Empty token: none."""

    server: str
    ssl: ssl.SSLContext
    token: str


def load(path: Path) -> Access:
    """The access of the current context; raises ClusterError when the file does not describe one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        context = _named(content["contexts"], content["current-context"])["context"]
        cluster = _named(content["clusters"], context["cluster"])["cluster"]
        user = _named(content["users"], context["user"])["user"]
        return Access(cluster["server"].rstrip("/"), _ssl(cluster, user), _token(user))
    except (OSError, KeyError, TypeError, yaml.YAMLError, ssl.SSLError) as error:
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


def _token(user: Mapping[str, str]) -> str:
    if "tokenFile" in user:
        return Path(user["tokenFile"]).read_text(encoding="ascii").strip()
    return user.get("token", "")


def _ssl(cluster: Mapping[str, str], user: Mapping[str, str]) -> ssl.SSLContext:
    authority = _pem(cluster, "certificate-authority")
    context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
    certificate, key = _pem(user, "client-certificate"), _pem(user, "client-key")
    if certificate and key:
        # The ssl module takes a certificate from a file only.
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _pem(holder: Mapping[str, str], field: str) -> bytes:
    if data := holder.get(f"{field}-data"):
        return base64.b64decode(data)
    if path := holder.get(field):
        return Path(path).read_bytes()
    return b""
