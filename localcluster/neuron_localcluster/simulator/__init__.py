"""Plays controllers and nodes on a control plane that has none: what becomes of Jobs and Deployments, at once.

A real controller-manager takes minutes for a thousand Jobs, and a real node runs what is in them. Where an operator is
measured, or is driven through thousands of lives, the API server is to be real and the rest is to answer at once.
"""

from neuron_localcluster.simulator.end import ContainerEnd
from neuron_localcluster.simulator.garbage import GarbageCollector
from neuron_localcluster.simulator.nodes import SimulatedNode, simulated_node
from neuron_localcluster.simulator.resource import BUILT_IN, Resource
from neuron_localcluster.simulator.workloads import Delays, Simulator, simulated_workloads

__all__ = [
    "BUILT_IN",
    "ContainerEnd",
    "Delays",
    "GarbageCollector",
    "Resource",
    "SimulatedNode",
    "Simulator",
    "simulated_node",
    "simulated_workloads",
]
