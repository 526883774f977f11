"""Who talks to the API server from outside pods, the tokens by which it knows them, and their kubeconfigs."""

from __future__ import annotations

import base64
import csv
import io
import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml

from neuron_localcluster.files import write_whole

CLUSTER_NAME = "neuron-local"


@dataclass(frozen=True)
class Identity:
    """A user of the API server; the token's file is `<name>.token`."""

    name: str
    user: str
    groups: tuple[str, ...] = ()


ADMIN = Identity("admin", "neuron-localcluster:admin", ("system:masters",))
CONTROLLER_MANAGER = Identity("controller-manager", "system:kube-controller-manager")
SCHEDULER = Identity("scheduler", "system:kube-scheduler")
# One process is the agent of every node, while the Node authorizer ties a user to a single node: it would be refused
# the pods, secrets and token requests of all nodes but one. Its own user name keeps it apart in the audit log.
NODE_AGENT = Identity("node-agent", "neuron-localcluster:node-agent", ("system:masters",))

IDENTITIES = (ADMIN, CONTROLLER_MANAGER, SCHEDULER, NODE_AGENT)


def ensure_tokens(path: Path) -> dict[str, str]:
    """Token by identity name; written to `path` in the API server's token file format when it does not exist."""
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            return {row[2]: row[0] for row in csv.reader(file)}
    tokens = {identity.name: secrets.token_hex(24) for identity in IDENTITIES}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for identity in IDENTITIES:
        writer.writerow([tokens[identity.name], identity.user, identity.name, ",".join(identity.groups)])
    write_whole(path, text.getvalue().encode())
    return tokens


def kubeconfig(server: str, authority: bytes, identity: Identity, token: str) -> str:
    """The text of a kubeconfig; `authority` is a PEM certificate."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority).decode("ascii")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CLUSTER_NAME, "cluster": cluster}],
        "users": [{"name": identity.name, "user": {"token": token}}],
        "contexts": [{"name": CLUSTER_NAME, "context": {"cluster": CLUSTER_NAME, "user": identity.name}}],
        "current-context": CLUSTER_NAME,
    }
    return yaml.safe_dump(content, sort_keys=False)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; unchanged text leaves it untouched."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    write_whole(path, text.encode())
