from __future__ import annotations

import pytest

from api.ports import Question, Readiness, SourceProblem
from mesh.problems import Problem
from tests.unit.api.fakes import Fixture

EXPLAIN = "/api/v1/explain?url=http%3A%2F%2Freviews.example.com%2F"


async def test_proxies_are_listed_with_envoys_words_and_shown_by_node(api: Fixture) -> None:
    proxies = (await api.client.get("/api/v1/proxies")).json["items"]
    assert proxies[0]["types"]["RDS"] == {
        "status": "ERROR",
        "sent": 1,
        "acked": 0,
        "version": "def",
        "rejected": "bad <regex>",
        "leftOut": {"reviews": ["stats_matcher"]},
    }
    node = proxies[0]["node"]
    assert (await api.client.get(f"/api/v1/proxies/{node}")).json["proxy"]["connectedSince"] == "2026-11-23T06:00:00Z"
    assert (await api.client.get("/api/v1/proxies/nobody")).status == 404
    assert (await api.client.get("/api/v1/proxies/a/b")).status == 404


async def test_explain_hands_on_the_question(api: Fixture) -> None:
    answer = await api.client.get(f"{EXPLAIN}&method=post&gateway=default%2Fedge&header=X-Canary%3A%20yes&header=b%3A")
    assert answer.json == {"listener": "http"}
    assert api.world.asked == [
        Question("POST", "http://reviews.example.com/", (("x-canary", "yes"), ("b", "")), "default/edge")
    ]


@pytest.mark.parametrize(
    "query", ["", "?url=", "?url=nonsense", "?url=http%3A%2F%2F%5B", "?url=%2F&header=nocolon", "?url=%2Fbad"]
)
async def test_a_question_that_makes_no_sense_is_refused(api: Fixture, query: str) -> None:
    assert (await api.client.get(f"/api/v1/explain{query}")).status == 400


async def test_an_unknown_gateway_is_not_found(api: Fixture) -> None:
    assert (await api.client.get(f"{EXPLAIN}&gateway=default%2Fnowhere")).status == 404


async def test_distribution_takes_a_kind_by_any_of_its_names(api: Fixture) -> None:
    for kind in ("HTTPRoute", "httproutes", "httproute"):
        found = await api.client.get(f"/api/v1/distribution/{kind}/default/reviews")
        assert (found.json["revision"], found.json["done"]) == (7, True)
    assert (await api.client.get("/api/v1/distribution/gatewayclass/reviews")).status == 200
    assert (await api.client.get("/api/v1/distribution/httproute/default/nobody")).status == 404
    assert (await api.client.get("/api/v1/distribution/nonsense/default/reviews")).status == 404


async def test_discovered_services_and_endpoints_are_filtered(api: Fixture) -> None:
    found = (await api.client.get("/api/v1/discovered/services?search=rev")).json
    assert [one["name"] for one in found["items"]] == ["reviews"]
    first = (await api.client.get("/api/v1/discovered/services?limit=1")).json
    assert (len(first["items"]), first["metadata"]["remainingItemCount"]) == (1, 1)
    assert (await api.client.get("/api/v1/discovered/services?namespace=other")).json["items"] == []
    endpoints = (await api.client.get("/api/v1/discovered/endpoints?namespace=default&service=reviews")).json["items"]
    assert endpoints[0]["address"] == "127.0.0.1"
    assert (await api.client.get("/api/v1/discovered/endpoints?service=nobody")).json["items"] == []


async def test_problems_of_sources_are_told_with_file_and_fix(api: Fixture) -> None:
    problem = Problem("WrongType", "error", "spec", "must be an object", "mend it", "a.yaml", 3)
    api.world.found_problems = [SourceProblem("files", problem)]
    found = (await api.client.get("/api/v1/problems")).json["items"]
    assert found[0]["source"] == "files"
    assert (found[0]["problem"]["file"], found[0]["problem"]["line"]) == ("a.yaml", 3)


async def test_ready_means_ready_and_says_what_is_waited_for(api: Fixture) -> None:
    assert (await api.client.get("/readyz")).status == 200
    api.world.ready = Readiness(ready=False, waiting_for=("the first build",))
    waiting = await api.client.get("/readyz")
    assert (waiting.status, waiting.json["waitingFor"]) == (503, ["the first build"])
    assert (await api.client.get("/healthz")).status == 200


async def test_metrics_are_handed_on_as_they_are(api: Fixture) -> None:
    answer = await api.client.get("/metrics")
    assert answer.body == b"fairlead_up 1\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_a_defect_is_500_as_a_problem_and_tells_nothing(api: Fixture) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    api.world.proxies = broken  # type: ignore[method-assign,assignment]
    answer = await api.client.get("/api/v1/proxies")
    assert (answer.status, answer.json["code"]) == (500, "InternalError")
    assert b"secret detail" not in answer.body
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_explain_refuses_a_method_that_no_request_can_have(api: Fixture) -> None:
    answer = await api.client.get(f"{EXPLAIN}&method=FOO%20BAR")
    assert answer.status == 400
    assert "FOO BAR" in answer.json["detail"]


async def test_authorizations_are_told_of_a_service_and_of_a_caller(api: Fixture) -> None:
    async def told(query: str) -> list[tuple[str, int]]:
        items = (await api.client.get(f"/api/v1/authorizations{query}")).json["items"]
        return [(item["service"], len(item["rules"])) for item in items]

    assert await told("") == [("db", 1), ("reviews", 1)]
    assert await told("?namespace=shop") == [("reviews", 1)]
    assert await told("?service=db&caller=web") == [("db", 1)]
    assert await told("?service=db&caller=shop%2Fweb") == [("db", 0)]
    assert (await api.client.get("/api/v1/authorizations?colour=red")).status == 400
