"""The node agent's configuration as `agent.json` has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuron_localcluster.errors import ClusterError
from neuron_localcluster.record import Image


@dataclass(frozen=True)
class NodeConfig:
    """A node to register."""

    name: str
    capacity: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class AgentConfig:
    """`pod_cidr` is a /16 of loopback, of which every pod gets an address."""

    kubeconfig: Path
    state_dir: Path
    nodes: tuple[NodeConfig, ...]
    images: Mapping[str, Image]
    pod_cidr: str


def load(path: Path) -> AgentConfig:
    """Raises ClusterError that names the field when the file is not a configuration."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return AgentConfig(
            kubeconfig=Path(content["kubeconfig"]),
            state_dir=Path(content["stateDir"]).absolute(),
            nodes=tuple(_node(node) for node in content["nodes"]),
            images=content["images"],
            pod_cidr=content["podCIDR"],
        )
    except (OSError, json.JSONDecodeError) as error:
        raise ClusterError(f"cannot read the node agent's configuration {path}: {error}") from error
    except KeyError as error:
        raise ClusterError(f"{path}: the field {error} is missing; `up` writes a complete file") from error


def _node(content: Mapping[str, Any]) -> NodeConfig:
    return NodeConfig(
        name=content["name"],
        capacity=content["capacity"],
        labels=content.get("labels", {}),
        taints=tuple(content.get("taints", ())),
    )
