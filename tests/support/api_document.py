"""The API's document as schemathesis reads it: requests are made up from it, and their answers are held against it."""

from __future__ import annotations

from typing import Any

from schemathesis import Case, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.config import CoveragePhaseConfig, PhasesConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.testclient import TestClient

from neuron_runtime.serving.app import build_app
from neuron_runtime.serving.metrics import Metrics
from neuron_runtime.serving.state import ServerState

DOCUMENT: dict[str, Any] = TestClient(build_app(ServerState(), Metrics())).get("/openapi.json").json()

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
_LONGEST_ANSWER = 8
_WAIT = 60.0


def api_schema(*, coverage: bool = False) -> BaseSchema:
    """The same requests in every run. `coverage`: with each boundary of each parameter, which are hundreds."""
    phases = PhasesConfig(coverage=CoveragePhaseConfig(enabled=coverage))
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=ProjectConfig(phases=phases)))
    return openapi.from_dict(DOCUMENT, config=config)


def check_answer(case: Case, url: str, model: str) -> None:
    """Send a request to a server of this model; its answer is what the document says, and not the server's fault."""
    if isinstance(case.body, dict):
        _make_answerable(case.body, model)
    case.call_and_validate(base_url=url, checks=_CHECKS, timeout=_WAIT)


def _make_answerable(body: dict[str, Any], model: str) -> None:
    """Ask for the model that is there, and for few tokens; what is wrong with the body stays as it is."""
    if isinstance(body.get("model"), str):
        body["model"] = model
    for name in ("max_tokens", "max_completion_tokens"):
        asked = body.get(name)
        if type(asked) is int and 1 <= asked < 2**31:
            body[name] = min(asked, _LONGEST_ANSWER)
