"""The API's OpenAPI document, put together from what each of the server's operations says of itself.

Schemas are those of the models that requests are read with, and of the types that answers are made of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from .request_body import BodyForm
from .response_body import DONE_WORD

JSON = "application/json"
EVENTS = "text/event-stream"

_VERSION = "1"
_REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Answer:
    """One kind of answer."""

    description: str
    schema: Any = None
    """A type that pydantic knows, of a JSON document."""
    events: Any = None
    """The type of the documents that a stream's events hold, where the answer can be one."""
    text: str | None = None
    """The media type, where the answer is neither."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names of headers that are always there, with what they say."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One method of one path."""

    method: Literal["GET", "POST"]
    path: str
    """As OpenAPI writes it, its parameters in braces. Their values may hold slashes."""
    name: str
    summary: str
    answers: Mapping[int, Answer]
    body: BodyForm[Any] | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What the path's parameters are."""

    @property
    def route(self) -> str:
        """The path as Starlette writes it."""
        return self.path.replace("}", ":path}")


def openapi_document(title: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": _VERSION},
        "paths": paths,
        "components": {"schemas": components},
    }


_Schemas = Mapping[tuple[int, JsonSchemaMode], dict[str, Any]]


def _schemas(operations: Sequence[Operation]) -> tuple[_Schemas, dict[str, Any]]:
    """The schema of every type by its identity, and the parts that they share by name."""
    bodies = [operation.body.model for operation in operations if operation.body is not None]
    answers = [answer for operation in operations for answer in operation.answers.values()]
    told = [kind for answer in answers for kind in (answer.schema, answer.events) if kind is not None]
    wanted: dict[tuple[int, JsonSchemaMode], TypeAdapter[Any]] = {}
    wanted |= {(id(kind), "validation"): TypeAdapter(kind) for kind in bodies}
    wanted |= {(id(kind), "serialization"): TypeAdapter(kind) for kind in told}
    inputs = [(key, mode, adapter) for (key, mode), adapter in wanted.items()]
    schemas, shared = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)
    components = shared.get("$defs", {})
    for operation in operations:
        if operation.body is not None:
            # The parameters that mean nothing here are no fields of the model.
            name = schemas[id(operation.body.model), "validation"]["$ref"].rpartition("/")[2]
            components[name]["properties"] |= operation.body.further_properties()
    return schemas, components


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    document: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()},
    }
    if operation.parameters:
        document["parameters"] = [
            {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}
            for name, description in operation.parameters.items()
        ]
    if operation.body is not None:
        schema = schemas[id(operation.body.model), "validation"]
        document["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return document


def _event(schema: dict[str, Any]) -> dict[str, Any]:
    """One server-sent event whose data is a JSON document, or the word that ends a stream."""
    document = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"anyOf": [{"const": DONE_WORD}, document]}},
    }


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if answer.schema is not None:
        content[JSON] = {"schema": schemas[id(answer.schema), "serialization"]}
    if answer.events is not None:
        content[EVENTS] = {"schema": _event(schemas[id(answer.events), "serialization"])}
    if answer.text is not None:
        content[answer.text] = {"schema": {"type": "string"}}
    document: dict[str, Any] = {"description": answer.description}
    if content:
        document["content"] = content
    if answer.headers:
        document["headers"] = {
            name: {"description": description, "required": True, "schema": {"type": "string"}}
            for name, description in answer.headers.items()
        }
    return document
