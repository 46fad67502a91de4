"""The description against the program: schemathesis makes requests from the one and judges the answers of the other."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from api import openapi
from api.kind_routing import KindRoutes
from mesh.kinds import KINDS
from tests.unit.api.fakes import fixture

DESCRIPTION = openapi.document(version="1", with_tokens=False)
APP = fixture().app
# The paths of all kinds are alike: two kinds and the world stand for all. The split is HTTPRoute's alone; to generate
# a whole HTTPRoute takes hypothesis a minute, so the property tests of the validator do that, without HTTP.
DESCRIBED = schemathesis.openapi.from_dict(DESCRIPTION)
SAMPLE = DESCRIBED.include(
    path_regex=r"servicesubsets|gatewayclasses|split$|proxies|explain|authority|registrations|distribution|discovered|problems|z$"
)


@SAMPLE.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
def test_generated_requests_get_the_answers_that_are_described(case: Any) -> None:
    case.headers = {**(case.headers or {}), "Host": "localhost"}
    if case.query and "watch" in case.query:
        del case.query["watch"]  # a stream without an end
    response = case.call(app=APP, base_url="http://localhost")
    case.validate_response(
        response,
        checks=[not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance],
    )


def test_every_path_is_described_and_every_described_path_is_there() -> None:
    routes = [one for part in APP.routes for one in getattr(getattr(part, "original_router", None), "routes", [part])]
    routes += [one for part in APP.routes if isinstance(part, KindRoutes) for one in part]
    served = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
        if route.path not in {"/", "/docs", "/openapi.json", "/web/{name}"}
    }
    described = {(path, method) for path, operations in DESCRIPTION["paths"].items() for method in operations}
    assert served == described


async def test_each_path_takes_the_parameters_that_are_described_and_no_others() -> None:
    client = fixture().client
    for path, operations in DESCRIPTION["paths"].items():
        if not path.startswith("/api/"):
            continue  # what probes and scrapers ask for
        for method, operation in operations.items():
            for name in [one["name"] for one in operation["parameters"] if one["in"] == "query"]:
                if name != "watch":
                    answer = await client.request(method.upper(), f"{path}?{name}=1")
                    assert b"UnknownParameter" not in answer.body, (method, path, name)
            answer = await client.request(method.upper(), f"{path}?nonsense=1")
            assert (answer.status, answer.json["code"]) == (400, "UnknownParameter"), (method, path)


def test_every_reference_leads_somewhere() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    text = json.dumps(DESCRIPTION)
    wanted = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert wanted <= schemas.keys()
    assert "#/$defs/" not in text
    assert KINDS.keys() <= schemas.keys()


def test_operation_ids_are_unique() -> None:
    ids = [one["operationId"] for operations in DESCRIPTION["paths"].values() for one in operations.values()]
    assert len(ids) == len(set(ids))


async def test_the_description_is_served_and_asks_for_a_token_where_one_is_needed() -> None:
    api = fixture()
    assert (await api.client.get("/openapi.json")).json == DESCRIPTION
    assert openapi.document(version="1", with_tokens=True)["security"] == [{"token": []}]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_read_may_carry_more_than_what_is_written(kind: str) -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    more = schemas[f"{kind}Read"]["properties"].keys() - schemas[kind]["properties"].keys()
    assert more == {"status", "origin", "warnings", "changes"}
