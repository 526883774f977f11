"""Marks that the models leave in their JSON schema for the CRD generator.

They say in Kubernetes' terms what pydantic has no word for: CEL rules, one-of members, list types, integer-or-string.
"""

from typing import Any

VALIDATIONS = "x-kubernetes-validations"
OPTIONAL_IN_SCHEMA = "x-neuron-optional"
REMEDY = "x-neuron-remedy"


def rule(expression: str, message: str) -> dict[str, Any]:
    """A CEL rule for the object or field that it is attached to. The message names the field and the remedy."""
    return {VALIDATIONS: [{"rule": expression, "message": message}]}


def one_of_member() -> dict[str, Any]:
    """Mark a field that models require and the schema does not: a CEL rule on the parent says which of them must be."""
    return {OPTIONAL_IN_SCHEMA: True}


def remedy(message: str) -> dict[str, Any]:
    """Say what to write when the field's pattern does not match; OpenAPI's own answer is the pattern alone."""
    return {REMEDY: message}


def map_list(*keys: str) -> dict[str, Any]:
    """A list whose items are merged by these keys."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def int_or_string(pattern: str) -> dict[str, Any]:
    """A quantity: an integer, or a string of this pattern."""
    return {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "pattern": pattern,
        "maxLength": 32,
        **rule(
            f"type(self) == int ? self >= 0 : self.matches(r'{pattern}')",
            "spec.compile.resources and spec.serving.resources must hold Kubernetes quantities; "
            "write for example 500m, 2 or 4Gi",
        ),
    }
