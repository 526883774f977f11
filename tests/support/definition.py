"""The CustomResourceDefinition on a cluster that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuron_operator.api.crd import PLAIN_FILE
from support.kubectl import Kubectl
from support.waiting import wait_for

DEFINITION = "neuronmodels.neuron-operator.dev"
MANIFEST = Path(__file__).parents[2] / PLAIN_FILE


@contextmanager
def definition_installed(kubectl: Kubectl) -> Iterator[None]:
    """The CRD is there and served; it goes again if it came with this."""
    # A chart installed in the same cluster would refuse to take over a definition that it did not make.
    present = kubectl.run("get", "crd", DEFINITION).returncode == 0
    if not present:
        kubectl("create", "-f", str(MANIFEST))
    wait_for("the CRD is served", lambda: _is_established(kubectl) or None, seconds=60)
    yield
    if not present:
        remove_definition(kubectl)


def _is_established(kubectl: Kubectl) -> bool:
    # `kubectl wait` fails on a definition that has no conditions yet.
    conditions = kubectl.json("get", "crd", DEFINITION).get("status", {}).get("conditions") or []
    return any(found["type"] == "Established" and found["status"] == "True" for found in conditions)


def remove_definition(kubectl: Kubectl) -> None:
    """Remove the CRD with all models. Others may have done so: pytest ends a package's fixtures late."""
    kubectl("delete", "crd", DEFINITION, "--ignore-not-found", "--wait")
