"""The server's document held against the server: whatever is made up from it is answered as it says."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import HealthCheck, settings
from schemathesis import Case

from support.api_document import DOCUMENT, api_schema, check_answer
from support.serving_process import NAME, ServingProcess

# The model may have to be compiled.
pytestmark = pytest.mark.timeout(1200)


@api_schema().parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_are_answered_as_the_document_says(case: Case, tiny_server: ServingProcess) -> None:
    check_answer(case, tiny_server.url, NAME)


@pytest.mark.slow
@api_schema(coverage=True).parametrize()
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_requests_are_answered_as_the_document_says(case: Case, tiny_server: ServingProcess) -> None:
    check_answer(case, tiny_server.url, NAME)


def test_the_server_gives_this_document(tiny_server: ServingProcess) -> None:
    assert httpx.get(f"{tiny_server.url}/openapi.json", timeout=60).json() == DOCUMENT
