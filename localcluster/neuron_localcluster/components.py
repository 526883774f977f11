"""The processes of a cluster beside its control plane, and how each is seen ready."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neuron_localcluster.identities import write_private
from neuron_localcluster.nodes import POD_CIDR
from neuron_localcluster.processes import ProcessSpec
from neuron_localcluster.record import ClusterRecord
from neuron_localcluster.standins import aws as aws_standin

NODE_AGENT = "node-agent"
HUB = "hub"
AWS = "aws"


@dataclass(frozen=True)
class Component:
    """A process and the condition under which it counts as ready, to be met within `deadline` seconds."""

    spec: ProcessSpec
    is_ready: Callable[[], bool]
    deadline: float = 60.0


def node_agent(folder: Path, record: ClusterRecord, kubeconfig: Path) -> Component:
    """The agent of all nodes; writes its configuration."""
    config = folder / "agent.json"
    state = folder / "node"
    content = {
        "kubeconfig": str(kubeconfig),
        "stateDir": str(state),
        "nodes": list(record.nodes),
        "images": dict(record.images),
        "podCIDR": POD_CIDR,
    }
    write_private(config, json.dumps(content, indent=2))
    state.mkdir(parents=True, exist_ok=True)
    ready = state / "agent.ready"
    spec = ProcessSpec(
        NODE_AGENT,
        (sys.executable, "-m", "neuron_localcluster.node", "--config", str(config)),
        inputs=(config, kubeconfig),
        # It ends every pod first.
        grace_seconds=30.0,
        ready_file=ready,
    )
    return Component(spec, ready.exists)


def hub(record: ClusterRecord) -> Component:
    """The stand-in for the Hugging Face hub."""
    port = record.ports[HUB]
    command = (sys.executable, "-m", "neuron_localcluster.standins.hub", "--root", record.hub_root, "--port", str(port))
    Path(record.hub_root).mkdir(parents=True, exist_ok=True)
    return Component(ProcessSpec(HUB, command), lambda: accepts(port))


def aws(folder: Path, record: ClusterRecord) -> Component:
    """The stand-in for S3 and CloudWatch."""
    port = record.ports[AWS]
    # It writes its state when it ends.
    spec = ProcessSpec(AWS, aws_standin.command(), aws_standin.environment(folder / "aws", port), grace_seconds=15.0)
    return Component(spec, lambda: aws_standin.is_ready(port))


def accepts(port: int) -> bool:
    """Whether something takes connections on 127.0.0.1 at that port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
