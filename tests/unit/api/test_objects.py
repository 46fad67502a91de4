from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from api.ports import Item, Past, Unavailable
from api.problems import Repeats
from mesh.kinds import KINDS
from mesh.model import ObjectKey
from tests.unit.api.fakes import Fixture, codes, file_item, made, route, service

SERVICE = "/api/v1/namespaces/default/services/reviews"
SERVICES = "/api/v1/namespaces/default/services"
ROUTE = "/api/v1/namespaces/default/httproutes/reviews"
KEY = ObjectKey("Service", "default", "reviews")


async def test_what_was_put_is_read_back_with_status_origin_and_etag(api: Fixture) -> None:
    created = await api.client.put(SERVICE, service())
    assert created.status == 201
    assert created.headers["etag"] == '"1"'
    api.world.statuses[KEY] = {"conditions": []}
    found = await api.client.get(SERVICE)
    assert found.status == 200
    assert found.json["spec"] == service()["spec"]
    assert found.json["metadata"]["resourceVersion"] == "1"
    assert found.json["origin"]["source"] == "store"
    assert found.json["status"] == {"conditions": []}
    assert (await api.client.put(SERVICE, service(port=81))).status == 200


async def test_what_was_read_can_be_sent_back_as_it_is(api: Fixture) -> None:
    await api.client.put(SERVICE, service())
    api.world.statuses[KEY] = {"conditions": []}
    found = await api.client.get(SERVICE)
    assert (await api.client.put(SERVICE, found.json)).status == 200


async def test_writers_who_patch_one_object_at_once_all_succeed(api: Fixture) -> None:
    await api.client.put(SERVICE, service())
    answers = await asyncio.gather(
        *(api.client.patch(SERVICE, {"metadata": {"labels": {f"l{n}": "x"}}}) for n in range(80))
    )
    assert {answer.status for answer in answers} == {200}
    assert len((await api.client.get(SERVICE)).json["metadata"]["labels"]) == 80


@pytest.mark.parametrize("query", ["dryrun=All", "dryRun", "dryRun=", "dry_run=All", "dryRun=All&dryRun=no", "x=1"])
async def test_a_query_that_is_not_understood_writes_nothing(api: Fixture, query: str) -> None:
    await api.client.put(SERVICE, service())
    for answer in (
        await api.client.put(f"{SERVICE}?{query}", service(port=99)),
        await api.client.patch(f"{SERVICE}?{query}", {"metadata": {"labels": {"a": "b"}}}),
        await api.client.delete(f"{SERVICE}?{query}"),
        await api.client.post(f"{SERVICE}/rollback?{query}", {"revision": 1}),
        await api.client.post(f"{ROUTE}/split?{query}", {"weights": {"reviews": 1}}),
    ):
        assert answer.status == 400
        assert answer.json["fix"]
    assert (await api.client.get(SERVICE)).json["metadata"]["resourceVersion"] == "1"


async def test_an_unknown_query_parameter_is_told_what_was_probably_meant(api: Fixture) -> None:
    answer = await api.client.put(f"{SERVICE}?dryrun=All", service())
    assert (answer.status, answer.json["code"]) == (400, "UnknownParameter")
    assert "dryRun" in answer.json["fix"]
    assert "labelSelector" in (await api.client.get(f"{SERVICES}?labelSelectors=a")).json["fix"]
    assert (await api.client.get(f"{SERVICE}?watch=true")).status == 400
    assert (await api.client.get(f"{SERVICES}?watch=true&limit=1")).status == 400


async def test_a_refused_method_is_told_which_there_are(api: Fixture) -> None:
    answer = await api.client.post(SERVICE, {})
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, HEAD, PATCH, PUT")
    assert "PATCH" in answer.json["fix"]
    assert (await api.client.delete(SERVICES)).headers["allow"] == "GET, HEAD"
    assert (await api.client.put(f"{ROUTE}/split", {})).headers["allow"] == "POST"


async def test_a_dry_run_answers_with_the_stamps_and_without_a_status(api: Fixture) -> None:
    first = (await api.client.put(f"{SERVICE}?dryRun=All", service(uid="mine", resourceVersion="0"))).json["metadata"]
    assert first == {"name": "reviews", "namespace": "default", "generation": 1}
    await api.client.put(SERVICE, service())
    api.world.statuses[KEY] = {"conditions": []}
    there = (await api.client.get(SERVICE)).json["metadata"]
    tried = await api.client.put(f"{SERVICE}?dryRun=All", service(port=81))
    assert tried.json["metadata"] == {**there, "generation": 2}
    assert "status" not in tried.json
    assert "etag" not in tried.headers
    same = await api.client.patch(f"{SERVICE}?dryRun=All", {"metadata": {"labels": {"a": "b"}}})
    assert same.json["metadata"] == {**there, "labels": {"a": "b"}}


async def test_a_dry_run_tells_the_paths_that_would_change(api: Fixture) -> None:
    assert "changes" not in (await api.client.put(f"{SERVICE}?dryRun=All", service())).json
    assert "changes" not in (await api.client.put(SERVICE, service())).json
    assert (await api.client.put(f"{SERVICE}?dryRun=All", service())).json["changes"] == []
    tried = await api.client.put(f"{SERVICE}?dryRun=All", service(port=81, labels={"a": "b"}))
    assert tried.json["changes"] == ["metadata.labels", "spec.ports"]
    assert (await api.client.put(SERVICE, tried.json)).status == 200


async def test_a_dry_run_over_a_file_is_compared_with_what_the_file_declares(api: Fixture) -> None:
    api.config.elsewhere = [file_item(service())]
    assert (await api.client.put(f"{SERVICE}?dryRun=All", service())).json["changes"] == []
    assert (await api.client.put(f"{SERVICE}?dryRun=All", service(port=81))).json["changes"] == ["spec.ports"]


async def test_an_invalid_object_is_refused_with_every_problem_and_its_path(api: Fixture) -> None:
    bad = service()
    bad["spec"]["ports"][0]["port"] = 70000
    bad["spec"]["prots"] = []
    answer = await api.client.put(SERVICE, bad)
    assert answer.status == 422
    assert {"spec.ports[0].port", "spec.prots"} <= {problem["path"] for problem in answer.json["problems"]}
    assert all(problem["fix"] for problem in answer.json["problems"])
    assert (await api.client.get(SERVICE)).status == 404


async def test_the_path_names_the_object_and_the_body_may_not_contradict_it(api: Fixture) -> None:
    nameless = service()
    del nameless["metadata"], nameless["kind"], nameless["apiVersion"]
    assert (await api.client.put(SERVICE, nameless)).status == 201
    answer = await api.client.put(SERVICE, service("ratings"))
    assert (answer.status, codes(answer)) == (422, ["Contradiction"])
    wrong = await api.client.put(SERVICE, route())
    assert "Contradiction" in codes(wrong)
    elsewhere = await api.client.put("/api/v1/namespaces/other/services/reviews", service())
    assert [problem["path"] for problem in elsewhere.json["problems"]] == ["metadata.namespace"]


@pytest.mark.parametrize("body", [None, [], "text", 7, {"metadata": 7}, {"metadata": None}, {"spec": []}])
async def test_a_body_that_is_no_object_is_refused(api: Fixture, body: Any) -> None:
    answer = await api.client.request(
        "PUT", SERVICE, json=body, body=b"null", headers={"content-type": "application/json"}
    )
    assert answer.status == 422


async def test_dry_run_judges_and_writes_nothing(api: Fixture) -> None:
    answer = await api.client.put(f"{SERVICE}?dryRun=All", service())
    assert (answer.status, answer.json["spec"]) == (201, service()["spec"])
    assert (await api.client.get(SERVICE)).status == 404
    assert (await api.client.put(f"{SERVICE}?dryRun=All", {"spec": {}})).status == 422
    await api.client.put(SERVICE, service())
    assert (await api.client.delete(f"{SERVICE}?dryRun=All")).status == 200
    assert (await api.client.get(SERVICE)).status == 200
    assert (await api.client.put(f"{SERVICE}?dryRun=maybe", service())).status == 400


async def test_a_patch_merges_and_null_removes(api: Fixture) -> None:
    await api.client.put(SERVICE, service(labels={"a": "1", "b": "2"}))
    answer = await api.client.patch(SERVICE, {"metadata": {"labels": {"a": None, "c": "3"}}})
    assert (answer.status, answer.json["metadata"]["labels"]) == (200, {"b": "2", "c": "3"})
    assert answer.json["spec"] == service()["spec"]
    assert (await api.client.patch(SERVICE, {"spec": {"ports": None}})).status == 422
    assert (await api.client.patch(SERVICE, {"metadata": {"name": "x"}})).status == 422
    assert (await api.client.patch(f"{SERVICE}-v9", {"spec": {}})).status == 404
    merge = {"content-type": "application/merge-patch+json"}
    assert (
        await api.client.request("PATCH", SERVICE, json={"metadata": {"labels": None}}, headers=merge)
    ).status == 200


async def test_a_patch_that_loses_a_race_is_run_again_on_what_the_other_wrote(api: Fixture) -> None:
    await api.client.put(SERVICE, service(labels={"a": "1"}))

    def other_writer() -> None:
        item = api.config.items[KEY]
        api.config.revision += 1
        other = made(service(labels={"a": "1", "other": "yes"}))
        api.config.items[KEY] = Item(other, item.source, api.config.revision)

    api.config.before_put = [other_writer]
    answer = await api.client.patch(SERVICE, {"metadata": {"labels": {"mine": "yes"}}})
    assert (answer.status, answer.json["metadata"]["labels"]) == (200, {"a": "1", "other": "yes", "mine": "yes"})
    api.config.before_put = [other_writer] * 20
    assert (await api.client.patch(SERVICE, {"metadata": {"labels": {"mine": "no"}}})).status == 409


async def test_an_object_of_kubernetes_is_shown_and_not_changed_here(api: Fixture) -> None:
    await api.client.put(SERVICE, service(port=81))
    api.config.elsewhere = [file_item(service(), "kubernetes:main"), file_item(service(port=83))]
    found = await api.client.get(SERVICE)
    assert (found.json["origin"]["source"], found.json["spec"]["ports"][0]["port"]) == ("kubernetes:main", 80)
    for answer in (
        await api.client.put(SERVICE, service(port=82)),
        await api.client.patch(SERVICE, {"metadata": {"labels": {"a": "b"}}}),
        await api.client.post(f"{SERVICE}/rollback", {"revision": 1}),
    ):
        assert (answer.status, answer.json["code"]) == (409, "OwnedElsewhere")
        assert "kubernetes:main" in answer.json["detail"]
    assert (await api.client.delete(SERVICE)).status == 200, "what Kubernetes shadows can be cleared away"
    assert (await api.client.delete(SERVICE)).status == 409


async def test_a_put_over_a_file_shadows_it_and_says_so(api: Fixture) -> None:
    api.config.elsewhere = [file_item(service())]
    answer = await api.client.put(SERVICE, service(port=81))
    assert answer.status == 201
    assert [problem["code"] for problem in answer.json["warnings"]] == ["Shadows"]
    assert answer.headers["warning"].startswith('299 fairlead "')
    assert "routes/reviews.yaml:1" in answer.headers["warning"]
    assert (await api.client.get(SERVICE)).json["origin"]["source"] == "store"
    gone = await api.client.delete(SERVICE)
    assert [problem["code"] for problem in gone.json["warnings"]] == ["Uncovered"]
    assert (await api.client.get(SERVICE)).json["origin"]["source"] == "files"
    assert (await api.client.delete(SERVICE)).status == 409


async def test_a_patch_of_a_file_object_starts_from_the_file(api: Fixture) -> None:
    api.config.elsewhere = [file_item(service(labels={"a": "1"}))]
    answer = await api.client.patch(SERVICE, {"metadata": {"labels": {"b": "2"}}})
    assert answer.json["metadata"]["labels"] == {"a": "1", "b": "2"}
    assert (await api.client.get(SERVICE)).json["origin"]["source"] == "store"


async def test_a_list_has_every_source_once_sorted_and_selected_and_in_pages(api: Fixture) -> None:
    await api.client.put(SERVICE, service(labels={"app": "web"}))
    api.config.elsewhere = [
        file_item(service(port=99)),
        file_item(service("details", labels={"app": "web"})),
        file_item(service("cart")),
    ]
    body = (await api.client.get(SERVICES)).json
    assert body["kind"] == "ServiceList"
    assert [(one["metadata"]["name"], one["origin"]["source"]) for one in body["items"]] == [
        ("cart", "files"),
        ("details", "files"),
        ("reviews", "store"),
    ]
    web = (await api.client.get(f"{SERVICES}?labelSelector=app%3Dweb")).json["items"]
    assert [one["metadata"]["name"] for one in web] == ["details", "reviews"]
    names, after = [], ""
    for _ in range(3):
        page = (await api.client.get(f"/api/v1/services?limit=1&continue={after}")).json
        names += [one["metadata"]["name"] for one in page["items"]]
        after = page["metadata"].get("continue", "")
    assert (names, after) == (["cart", "details", "reviews"], "")
    assert (await api.client.get("/api/v1/namespaces/other/services")).json["items"] == []
    assert (await api.client.get(f"{SERVICES}?labelSelector=a%3D%3D%3Db")).status == 400
    assert (await api.client.get(f"{SERVICES}?limit=0")).status == 400


@pytest.mark.parametrize("text", ["zzz", "/", "a/", "/a", "a/b/c", "default/re views"])
async def test_a_place_to_go_on_from_that_no_page_gave_is_refused(api: Fixture, text: str) -> None:
    answer = await api.client.get(f"/api/v1/services?continue={quote(text)}")
    assert (answer.status, answer.json["code"]) == (400, "BadQuery")
    assert "metadata.continue" in answer.json["fix"]


async def test_lists_of_cluster_scoped_kinds_come_in_pages_too(api: Fixture) -> None:
    for name in ("a", "b"):
        await api.client.put(f"/api/v1/namespaces/{name}", {})
    first = (await api.client.get("/api/v1/namespaces?limit=1")).json
    rest = (await api.client.get(f"/api/v1/namespaces?continue={quote(first['metadata']['continue'])}")).json
    assert [one["metadata"]["name"] for one in (*first["items"], *rest["items"])] == ["a", "b"]


async def test_history_says_who_and_rollback_writes_an_older_revision_again(api: Fixture) -> None:
    await api.client.put(SERVICE, service())
    await api.client.put(SERVICE, service(port=81))
    history = (await api.client.get(f"{SERVICE}/history")).json["items"]
    assert [(past["revision"], past["by"]) for past in history] == [(2, "local"), (1, "local")]
    assert history[1]["object"]["spec"]["ports"][0]["port"] == 80
    answer = await api.client.post(f"{SERVICE}/rollback", {"revision": 1})
    assert (answer.status, answer.json["spec"]["ports"][0]["port"]) == (200, 80)
    assert answer.json["metadata"]["resourceVersion"] == "3"
    await api.client.delete(SERVICE)
    assert (await api.client.get(f"{SERVICE}/history")).json["items"][0]["deleted"] is True
    assert (await api.client.post(f"{SERVICE}/rollback", {"revision": 4})).status == 422
    assert (await api.client.post(f"{SERVICE}/rollback", {"revision": 99})).status == 404
    assert (await api.client.post(f"{SERVICE}/rollback", {"revision": 1})).status == 201
    for bad in ({}, {"revision": "1"}, {"revision": True}, {"revision": 1, "x": 2}, [], {"revision": 2**70}):
        assert (await api.client.post(f"{SERVICE}/rollback", bad)).status == 422
    assert (await api.client.get("/api/v1/namespaces/default/services/nobody/history")).status == 404


async def test_a_row_that_cannot_be_read_can_be_replaced_and_deleted(api: Fixture) -> None:
    await api.client.put(SERVICE, service())

    async def broken(key: ObjectKey) -> Item | None:
        raise Unavailable(f"{key} cannot be read")

    api.config.get = broken  # type: ignore[method-assign]
    assert (await api.client.get(SERVICE)).status == 503
    assert (await api.client.put(SERVICE, service(port=81))).status == 200
    assert (await api.client.delete(SERVICE)).status == 200
    api.config.log[KEY].insert(0, Past(9, None, "x", "2026-11-23T06:00:00Z", "DecodeError"))
    shown = (await api.client.get(f"{SERVICE}/history")).json["items"][0]
    assert (shown["error"], "deleted" in shown) == ("DecodeError", False)


async def test_a_store_that_is_away_is_503_with_the_fix_and_a_time_to_come_back(api: Fixture) -> None:
    api.config.failure = Unavailable("The store is full", fix="Free some space")
    for answer in (
        await api.client.get(SERVICE),
        await api.client.get(SERVICES),
        await api.client.put(SERVICE, service()),
        await api.client.delete(SERVICE),
    ):
        assert (answer.status, answer.json["fix"]) == (503, "Free some space")
        assert int(answer.headers["retry-after"]) > 0


async def test_a_write_that_the_store_refuses_is_in_the_log_once(
    api: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    api.config.failure = Unavailable("The store is full", fix="Free some space")
    for _ in range(20):
        await api.client.put(SERVICE, service())
    assert [record.getMessage() for record in caplog.records] == [
        f"refused PUT {SERVICE}: The store is full. Free some space"
    ]


def test_a_failure_is_told_of_again_after_a_while_and_few_are_remembered() -> None:
    said = Repeats(10.0)
    assert [said.is_new("full", now) for now in (0.0, 5.0, 9.9, 10.0, 11.0)] == [True, False, False, True, False]
    for number in range(Repeats.MOST):
        assert said.is_new(f"other {number}", 11.0)
    assert said.is_new("full", 12.0), "the oldest was forgotten"


async def test_the_split_shifts_weights_of_one_rule(api: Fixture) -> None:
    await api.client.put(ROUTE, route())
    answer = await api.client.post(f"{ROUTE}/split", {"weights": {"reviews": 50, "reviews-v2": 50}})
    assert answer.status == 200
    assert [ref["weight"] for ref in answer.json["spec"]["rules"][0]["backendRefs"]] == [50, 50]
    bad = await api.client.post(f"{ROUTE}/split", {"rule": 3, "weights": {"reviews": 50}})
    assert (bad.status, codes(bad)) == (422, ["NoSuchRule"])
    assert (await api.client.post(f"{ROUTE}/split", {})).status == 422
    assert (await api.client.post(f"{SERVICE}/split", {"weights": {}})).status == 404


async def test_cluster_scoped_kinds_live_without_a_namespace(api: Fixture) -> None:
    raw = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "fairlead"},
        "spec": {"controllerName": "fairlead.dev/gateway-controller"},
    }
    assert (await api.client.put("/api/v1/gatewayclasses/fairlead", raw)).status == 201
    assert (await api.client.get("/api/v1/gatewayclasses/fairlead")).json["metadata"]["name"] == "fairlead"
    assert len((await api.client.get("/api/v1/gatewayclasses")).json["items"]) == 1
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    assert (await api.client.put("/api/v1/namespaces/default", namespace)).status == 201


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_every_kind_has_its_paths(api: Fixture, kind: str) -> None:
    one = KINDS[kind]
    root = f"/api/v1/namespaces/default/{one.plural}" if one.namespaced else f"/api/v1/{one.plural}"
    assert (await api.client.get(root)).json["kind"] == f"{kind}List"
    missing = await api.client.get(f"{root}/nobody")
    assert (missing.status, missing.json["code"]) == (404, "NotFound")


async def test_an_unknown_path_says_which_kinds_there_are(api: Fixture) -> None:
    answer = await api.client.get("/api/v1/namespaces/default/httproute")
    assert answer.status == 404
    assert "httproutes" in answer.json["fix"]
    assert (await api.client.post(SERVICE, {})).status == 405
