"""The nodes that a cluster shows to its scheduler: what instance each is shaped like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

POD_CIDR = "127.77.0.0/16"


@dataclass(frozen=True)
class Taint:
    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True)
class NodeShape:
    """A node: its labels, its capacity (Kubernetes quantities) and its taints."""

    name: str
    capacity: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The node as the node agent's configuration and the cluster's own record have it."""
        return {
            "name": self.name,
            "labels": dict(self.labels),
            "capacity": dict(self.capacity),
            "taints": [{"key": taint.key, "value": taint.value, "effect": taint.effect} for taint in self.taints],
        }


def like_instance(name: str, instance_type: str, capacity: Mapping[str, str], taints: tuple[Taint, ...]) -> NodeShape:
    """A node that looks like an EC2 instance of that type."""
    labels = {
        "node.kubernetes.io/instance-type": instance_type,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
    }
    return NodeShape(name, capacity, labels, taints)


# The taint is what EKS users put on Neuron nodes: only pods that tolerate it, that is ask for devices, land there.
NEURON_NODE = like_instance(
    "inf2",
    "inf2.xlarge",
    {"cpu": "4", "memory": "16Gi", "pods": "58", "aws.amazon.com/neuron": "1", "aws.amazon.com/neuroncore": "2"},
    (Taint("aws.amazon.com/neuron", "NoSchedule"),),
)
CPU_NODE = like_instance("cpu", "m7i.2xlarge", {"cpu": "8", "memory": "32Gi", "pods": "110"}, ())

DEFAULT_NODES = (NEURON_NODE, CPU_NODE)
