"""The OpenAPI document is true: everything in it is asked, and the answers are what it says."""

from __future__ import annotations

import pytest

from zit_ext.http.everything import all_routes
from zit_ext.http.openapi import ABOUT
from zit_ext.http.openapi_schemas import REQUEST_FIELDS
from zit_ext.request_json import FIELDS

pytestmark = pytest.mark.http

schemathesis = pytest.importorskip("schemathesis", reason="it needs schemathesis, which needs Python 3.11")


NEVER_END = {"/zit/v1/events"}
"""Streams that last as long as their listener: test_events has them."""


def test_every_route_is_described_and_nothing_else():
    assert {(each.method, each.path) for each in all_routes()} == set(ABOUT)


def test_every_field_of_a_request_is_described():
    assert set(REQUEST_FIELDS) == FIELDS


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from zit_ext.testing_engine import TrialEngine

    from .server import Served

    with TrialEngine(tmp_path_factory.mktemp("api"), installed=False, memory_bytes=1_000_000) as trial:
        served = Served(trial.runtime)
        try:
            served.generate()  # so that there is something to list
            yield served
        finally:
            served.close()


def operations(server):
    schema = schemathesis.openapi.from_url(f"{server.url}/zit/v1/openapi.json")
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path not in NEVER_END:
            yield operation


def test_everything_in_the_document_answers_as_it_says(server):
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis.specs.openapi import checks

    # No route says that it answers 500.
    wanted = [
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    asked = set()
    succeeded = set()
    for operation in operations(server):

        @seed(8)
        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case):
            answer = case.call_and_validate(checks=wanted, timeout=30)
            if answer.status_code < 400:
                succeeded.add((case.method.upper(), case.operation.path))

        ask()
        asked.add((operation.method.upper(), operation.path))
    everything = {(method, path.replace("...}", "}")) for method, path in ABOUT if path not in NEVER_END}
    assert asked == everything - {("GET", "/zit/v1/openapi.json")}  # it has been read already
    # The others need a digest, a key or a number that is there, or weights: other tests have them.
    assert len(succeeded) > 35
