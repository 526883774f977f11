"""The API's document: it is valid, it says of each route what there is, and of nothing else."""

from __future__ import annotations

from typing import Any, cast

import pytest
import schemathesis
from starlette.routing import Route
from starlette.testclient import TestClient

from neuron_runtime.serving.app import build_app
from neuron_runtime.serving.chat_request import CHAT_BODY
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.state import ServerState
from neuron_runtime.serving.text_request import TEXT_BODY

_APP = build_app(ServerState(), Metrics())


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """What a server says that has no model yet."""
    answer = TestClient(_APP).get("/openapi.json")
    assert answer.status_code == 200
    return cast(dict[str, Any], answer.json())


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()


def test_every_route_is_in_the_document_and_the_other_way_round(document: dict[str, Any]) -> None:
    routes: list[Route] = cast(Any, _APP)._app.routes
    served = {(route.path.replace(":path}", "}"), method.lower()) for route in routes for method in route.methods or ()}
    # Starlette answers HEAD wherever it answers GET.
    served -= {(path, "head") for path, _ in served}
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert described == served
    assert len(described) == len(routes)


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere_and_every_part_is_used(document: dict[str, Any]) -> None:
    def references(part: Any) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            return own.union(*map(references, part.values()))
        return set().union(*map(references, part)) if isinstance(part, list) else set()

    there = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) == there


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize"])
def test_what_can_go_wrong_with_a_request_is_described(document: dict[str, Any], path: str) -> None:
    answers = document["paths"][path]["post"]["responses"]
    assert set(answers) == {"200", "400", "404", "408", "413", "429", "500", "503"}
    for status, answer in answers.items():
        told = answer["content"]["application/json"]["schema"]["$ref"]
        assert told.endswith("/ErrorDocument") == (status != "200")
        assert ("Retry-After" in answer.get("headers", {})) == (status in {"429", "503"})


@pytest.mark.parametrize(
    ("path", "event"),
    [("/v1/chat/completions", "ChatCompletionChunk"), ("/v1/completions", "TextCompletionChunk")],
)
def test_streams_are_described(document: dict[str, Any], path: str, event: str) -> None:
    stream = document["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    end, told = stream["schema"]["properties"]["data"]["anyOf"]
    assert end == {"const": "[DONE]"}
    names = [part["$ref"].rpartition("/")[2] for part in told["contentSchema"]["anyOf"]]
    assert names == [event, "ErrorDocument"]


@pytest.mark.parametrize(("name", "form"), [("ChatBody", CHAT_BODY), ("TextBody", TEXT_BODY)])
def test_parameters_that_mean_nothing_are_described(document: dict[str, Any], name: str, form: Any) -> None:
    schema = document["components"]["schemas"][name]
    assert set(schema["properties"]) == {*form.model.model_fields, *form.neutral, *form.without_effect}
    assert schema["properties"]["logit_bias"]["enum"] == [{}, None]
    assert schema["additionalProperties"] is False
