"""The server's document held against the server: whatever is made up from it is answered as it says."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import CoveragePhaseConfig, PhasesConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
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
from support.serving_process import NAME, ServingProcess

# The model may have to be compiled.
pytestmark = pytest.mark.timeout(1200)

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

_DOCUMENT = TestClient(build_app(ServerState(), Metrics())).get("/openapi.json").json()


def _schema(*, coverage: bool) -> schemathesis.schemas.BaseSchema:
    """`coverage`: with every boundary of every parameter by itself, which are hundreds."""
    phases = PhasesConfig(coverage=CoveragePhaseConfig(enabled=coverage))
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=ProjectConfig(phases=phases)))
    return schemathesis.openapi.from_dict(_DOCUMENT, config=config)


def _check(case: schemathesis.Case, server: ServingProcess) -> None:
    if isinstance(case.body, dict):
        _make_answerable(case.body)
    case.call_and_validate(base_url=server.url, checks=_CHECKS, timeout=_WAIT)


def _make_answerable(body: dict[str, Any]) -> None:
    """Ask for the model that is there, and for few tokens; what is wrong with the body stays as it is."""
    if isinstance(body.get("model"), str):
        body["model"] = NAME
    for name in ("max_tokens", "max_completion_tokens"):
        asked = body.get(name)
        if type(asked) is int and 1 <= asked < 2**31:
            body[name] = min(asked, _LONGEST_ANSWER)


@_schema(coverage=False).parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_are_answered_as_the_document_says(case: schemathesis.Case, tiny_server: ServingProcess) -> None:
    _check(case, tiny_server)


@pytest.mark.slow
@_schema(coverage=True).parametrize()
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_requests_are_answered_as_the_document_says(case: schemathesis.Case, tiny_server: ServingProcess) -> None:
    _check(case, tiny_server)


def test_the_server_gives_this_document(tiny_server: ServingProcess) -> None:
    assert httpx.get(f"{tiny_server.url}/openapi.json", timeout=_WAIT).json() == _DOCUMENT
