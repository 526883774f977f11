"""Names of resources and the API server's paths to them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """A namespaced resource of the Kubernetes API."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path to all objects, to those of a namespace, to one of them, or to a part of it."""
        parts = ["/apis" if "/" in self.api_version else "/api", self.api_version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [self.plural, *filter(None, (name, subresource))]
        return "/".join(parts)


CONTROLLER_REVISIONS = Resource("apps/v1", "ControllerRevision", "controllerrevisions")
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
JOBS = Resource("batch/v1", "Job", "jobs")
PODS = Resource("v1", "Pod", "pods")
SERVICES = Resource("v1", "Service", "services")

BUILT_IN = (CONTROLLER_REVISIONS, DEPLOYMENTS, JOBS, PODS, SERVICES)
"""The built-in resources that an operator commonly makes."""
