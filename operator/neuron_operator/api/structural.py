"""Pydantic's JSON schema -> Kubernetes' structural OpenAPI schema.

Kubernetes takes a narrow dialect: no references, a type everywhere, no nulls as a union. What cannot be said in it is
an error here, at generation, rather than at the API server of somebody who installs the chart.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .schema import OPTIONAL_IN_SCHEMA, REMEDY, VALIDATIONS

Schema = dict[str, Any]

_DROPPED = frozenset({"title", "$defs", OPTIONAL_IN_SCHEMA, REMEDY})
_KEPT = frozenset(
    {
        "type",
        "description",
        "default",
        "enum",
        "format",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        VALIDATIONS,
    }
)
_INT_OR_STRING = "x-kubernetes-int-or-string"


class UnsupportedSchemaError(ValueError):
    """A model says something that a structural schema cannot say."""


def structural_schema(document: Mapping[str, Any]) -> Schema:
    """Convert the output of `model_json_schema()`. Raises UnsupportedSchemaError naming the path."""
    definitions: Mapping[str, Any] = document.get("$defs", {})
    return _convert(document, definitions, "")


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    node = _without_null(_resolved(node, definitions), definitions, path)
    if node.get(_INT_OR_STRING):
        return dict(node)
    result: Schema = {}
    for keyword, value in node.items():
        if keyword in _DROPPED:
            continue
        if keyword in _KEPT:
            result[keyword] = value
            continue
        converter = _CONVERTERS.get(keyword)
        if converter is None:
            raise UnsupportedSchemaError(f"{path or 'the root'}: structural schemas have no {keyword!r}")
        result |= converter(node, definitions, path)
    if "type" not in result:
        raise UnsupportedSchemaError(f"{path or 'the root'}: structural schemas need a type")
    _complete_default(result)
    _add_pattern_rule(result, node)
    return result


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Put a reference's target in its place; what stands beside the reference wins."""
    if "$ref" not in node:
        return dict(node)
    target = _resolved(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    return target | {keyword: value for keyword, value in node.items() if keyword != "$ref"}


def _without_null(node: dict[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    """An optional field is one that may be absent: a union with null becomes its other member."""
    if "anyOf" not in node or node.get(_INT_OR_STRING):
        return node
    members = [member for member in node["anyOf"] if member != {"type": "null"}]
    if len(members) != 1:
        raise UnsupportedSchemaError(f"{path}: a union of several types")
    siblings = {keyword: value for keyword, value in node.items() if keyword != "anyOf"}
    if siblings.get("default", ...) is None:
        del siblings["default"]
    return _resolved(members[0], definitions) | siblings


def _properties(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    properties: Mapping[str, Any] = node["properties"]
    converted = {
        name: _convert(child, definitions, f"{path}.{name}" if path else name) for name, child in properties.items()
    }
    return {"properties": converted}


def _required(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    properties = node["properties"]
    names = [name for name in node["required"] if not properties[name].get(OPTIONAL_IN_SCHEMA)]
    return {"required": names} if names else {}


def _items(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    return {"items": _convert(node["items"], definitions, f"{path}[]")}


def _map_values(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    values = node["additionalProperties"]
    if not isinstance(values, Mapping):
        raise UnsupportedSchemaError(f"{path}: a map needs a type for its values")
    return {"additionalProperties": _convert(values, definitions, f"{path}{{}}")}


def _constant(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> Schema:
    return {"enum": [node["const"]]}


_CONVERTERS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], str], Schema]] = {
    "properties": _properties,
    "required": _required,
    "items": _items,
    "additionalProperties": _map_values,
    "const": _constant,
}


def _complete_default(schema: Schema) -> None:
    """Let the API server build an object's default from those of its fields, so that each stands in one place."""
    if "properties" in schema and "default" in schema:
        schema["default"] = {}


def _add_pattern_rule(schema: Schema, node: Mapping[str, Any]) -> None:
    """Give a pattern an answer in words: OpenAPI has no message of one's own, CEL has."""
    message = node.get(REMEDY)
    if message is None:
        return
    rule = {"rule": f"self.matches(r'{schema['pattern']}')", "message": message}
    schema[VALIDATIONS] = [rule, *schema.get(VALIDATIONS, [])]
