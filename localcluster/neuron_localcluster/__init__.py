"""A Kubernetes cluster on one machine, without containers and without root.

The control plane is the real one, run as local processes; nodes and cloud services are stand-ins that speak the real
protocols. This package knows nothing of what is deployed to the cluster.
"""
