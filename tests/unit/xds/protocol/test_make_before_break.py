from __future__ import annotations

from typing import Any

import pytest

from tests.support.xds_script import Script, Served, entry, removed, sent
from xds.protocol.ordering import Patience
from xds.schema.type_urls import (
    TYPE_CLUSTER,
    TYPE_ENDPOINT,
    TYPE_LISTENER,
    TYPE_ROUTE,
    TYPE_SECRET,
    short,
)

PATIENCE = Patience(warm=5, grace=5, leave=30, answer=10)


def kinds(responses: list[Any]) -> list[str]:
    return [short(response.type_url) for response in responses]


def route(version: str, *needs: str) -> dict[str, Any]:
    return {"routes": entry("routes", version, needs=needs)}


@pytest.fixture
def served() -> Served:
    made = Served()
    made.set(TYPE_CLUSTER, {"old": "1"})
    made.set(TYPE_ENDPOINT, {"old": "1"})
    made.set(TYPE_LISTENER, {"l": "1"})
    made.set(TYPE_ROUTE, route("1", "old"))
    return made


@pytest.fixture(params=["delta", "sotw"])
def client(request: pytest.FixtureRequest, served: Served) -> Script:
    """A proxy that has everything."""
    made = Script(served, request.param, PATIENCE)
    [clusters] = made.ask(TYPE_CLUSTER)
    assert made.ack(clusters) == []
    for type_url, names in ((TYPE_ENDPOINT, ["old"]), (TYPE_LISTENER, []), (TYPE_ROUTE, ["routes"])):
        [first] = made.ask(type_url, **naming(made, names))
        assert made.ack(first, **repeated(made, names)) == []
    return made


def naming(client: Script, names: list[str]) -> dict[str, Any]:
    return {"subscribe": names} if client.variant == "delta" else {"names": names}


def repeated(client: Script, names: list[str]) -> dict[str, Any]:
    return {} if client.variant == "delta" else {"names": names}


def test_s18_types_are_sent_in_the_order_that_breaks_nothing(served: Served, client: Script) -> None:
    served.set(TYPE_CLUSTER, {"old": "2"})
    served.set(TYPE_ENDPOINT, {"old": "2"})
    served.set(TYPE_LISTENER, {"l": "2"})
    served.set(TYPE_ROUTE, route("2", "old"))
    assert kinds(client.news()) == ["CDS", "EDS", "LDS", "RDS"]


def test_s18_new_routes_wait_for_the_ack_of_their_clusters_and_for_their_endpoints(
    served: Served, client: Script
) -> None:
    served.set(TYPE_CLUSTER, {"old": "1", "new": "1"})
    served.set(TYPE_ENDPOINT, {"old": "1", "new": "1"})
    served.set(TYPE_ROUTE, route("2", "new", "old"))
    [clusters] = client.news()
    assert kinds([clusters]) == ["CDS"]
    assert client.ack(clusters) == []
    nonce = {} if client.variant == "delta" else {"nonce": client.stream.types[TYPE_ENDPOINT].last_nonce}
    answers = client.ask(TYPE_ENDPOINT, **nonce, **naming(client, ["new"] if not nonce else ["old", "new"]))
    assert kinds(answers) == ["EDS", "RDS"]
    assert sent(answers[1]) == {"routes": "2"}


def test_s18_a_client_that_asks_for_clusters_by_name_gets_routes_to_clusters_it_has_not_asked_for(
    served: Served,
) -> None:
    client = Script(served, "sotw", PATIENCE)
    for type_url, name in ((TYPE_LISTENER, "l"), (TYPE_ROUTE, "routes"), (TYPE_CLUSTER, "old"), (TYPE_ENDPOINT, "old")):
        [answer] = client.ask(type_url, names=[name])
        client.ack(answer, names=[name])
    served.set(TYPE_CLUSTER, {"old": "1", "new": "1"})
    served.set(TYPE_ENDPOINT, {"old": "1", "new": "1"})
    served.set(TYPE_ROUTE, route("2", "new", "old"))
    assert kinds(client.news()) == ["RDS"]


def test_s18_a_proxy_that_does_not_ask_for_the_endpoints_gets_its_routes_in_the_end(
    served: Served, client: Script
) -> None:
    served.set(TYPE_CLUSTER, {"old": "1", "new": "1"})
    served.set(TYPE_ROUTE, route("2", "new"))
    [clusters] = client.news()
    client.ack(clusters)
    assert client.wait(4.9) == []
    assert kinds(client.wait(0.2)) == ["RDS"]


def test_s18_routes_to_a_refused_cluster_do_not_wait(served: Served, client: Script) -> None:
    served.set(TYPE_CLUSTER, {"old": "1", "new": "1"})
    served.set(TYPE_ROUTE, route("2", "new"))
    [clusters] = client.news()
    assert kinds(client.nack(clusters, "cluster new: bad")) == ["RDS"]


def test_s18_a_change_that_needs_nothing_new_does_not_wait_for_one_that_does(served: Served) -> None:
    client = Script(served, "delta", PATIENCE)
    served.set(TYPE_ROUTE, {**route("1", "old"), "other": "1"})
    [clusters] = client.ask(TYPE_CLUSTER)
    client.ack(clusters)
    client.ask(TYPE_ENDPOINT, subscribe=["old"])
    [routes] = client.ask(TYPE_ROUTE, subscribe=["routes", "other"])
    client.ack(routes)
    served.set(TYPE_CLUSTER, {"old": "1", "new": "1"})
    served.set(TYPE_ROUTE, {**route("2", "new"), "other": "2"})
    _, routes = client.news()
    assert sent(routes) == {"other": "2"}


def test_s18_a_first_list_of_listeners_is_not_sent_empty_while_it_waits_for_clusters(served: Served) -> None:
    served.set(TYPE_LISTENER, {"l": entry("l", "1", needs=("old",))})
    client = Script(served, "delta", PATIENCE)
    [clusters] = client.ask(TYPE_CLUSTER)
    assert client.ask(TYPE_LISTENER) == []
    client.ack(clusters)
    [_, listeners] = client.ask(TYPE_ENDPOINT, subscribe=["old"])
    assert sent(listeners) == {"l": "1"}


def leave_old(served: Served) -> None:
    served.set(TYPE_CLUSTER, {})
    served.set(TYPE_ENDPOINT, {})
    served.set(TYPE_ROUTE, route("2"))


def test_s19_a_removed_cluster_leaves_after_the_ack_of_the_routes_and_a_grace(served: Served, client: Script) -> None:
    leave_old(served)
    [routes] = client.news()
    assert kinds([routes]) == ["RDS"]
    assert client.wait(8) == []
    assert client.ack(routes, **repeated(client, ["routes"])) == []
    assert client.wait(4.9) == []
    [clusters] = client.wait(0.2)
    assert kinds([clusters]) == ["CDS"]
    assert sent(clusters) == {}
    if client.variant == "delta":
        assert removed(clusters) == ["old"]


def test_s19_a_full_list_still_holds_the_cluster_that_has_to_stay(served: Served) -> None:
    client = Script(served, "sotw", PATIENCE)
    [clusters] = client.ask(TYPE_CLUSTER)
    client.ack(clusters)
    client.ask(TYPE_ENDPOINT, names=["old"])
    [routes] = client.ask(TYPE_ROUTE, names=["routes"])
    client.ack(routes, names=["routes"])
    served.set(TYPE_CLUSTER, {"new": "1"})
    served.set(TYPE_ROUTE, route("2"))
    clusters = client.news()[0]
    assert sent(clusters) == {"old": "1", "new": "1"}


def test_s19_a_cluster_leaves_in_the_end_from_a_proxy_that_never_answers(served: Served, client: Script) -> None:
    leave_old(served)
    assert kinds(client.news()) == ["RDS"]
    assert client.wait(29) == []
    assert kinds(client.wait(2)) == ["CDS"]


def test_s19_a_cluster_that_comes_back_within_the_grace_is_simply_kept(served: Served, client: Script) -> None:
    leave_old(served)
    [routes] = client.news()
    client.ack(routes, **repeated(client, ["routes"]))
    assert client.wait(3) == []
    served.set(TYPE_CLUSTER, {"old": "1"})
    served.set(TYPE_ENDPOINT, {"old": "1"})
    assert client.news() == []
    assert client.wait(60) == []


def test_s19_a_cluster_that_came_back_has_the_whole_grace_when_it_goes_again(served: Served, client: Script) -> None:
    leave_old(served)
    [routes] = client.news()
    assert client.ack(routes, **repeated(client, ["routes"])) == []
    served.set(TYPE_CLUSTER, {"old": "1"})
    served.set(TYPE_ENDPOINT, {"old": "1"})
    served.set(TYPE_ROUTE, route("3", "old"))
    [routes] = client.news()
    assert kinds([routes]) == ["RDS"]
    assert client.ack(routes, **repeated(client, ["routes"])) == []
    assert client.wait(60) == []
    leave_old(served)
    [routes] = client.news()
    assert kinds([routes]) == ["RDS"], "and not the removal of the cluster before it"
    assert client.ack(routes, **repeated(client, ["routes"])) == []
    assert client.wait(4.9) == []
    assert kinds(client.wait(0.2)) == ["CDS"]


def test_s19_a_cluster_stays_as_long_as_a_refused_change_leaves_its_old_route_in_force(
    served: Served, client: Script
) -> None:
    leave_old(served)
    [routes] = client.news()
    client.nack(routes, "bad route", **repeated(client, ["routes"]))
    assert client.wait(120) == []


def test_s19_the_endpoints_of_a_leaving_cluster_stay_until_it_has_left(served: Served) -> None:
    client = Script(served, "delta", PATIENCE)
    for type_url, names in ((TYPE_CLUSTER, []), (TYPE_ENDPOINT, ["old"]), (TYPE_ROUTE, ["routes"])):
        [first] = client.ask(type_url, subscribe=names)
        client.ack(first)
    leave_old(served)
    [routes] = client.news()
    client.ack(routes)
    [clusters] = client.wait(6)
    assert removed(clusters) == ["old"]
    client.ack(clusters)
    assert client.ask(TYPE_ENDPOINT, unsubscribe=["old"]) == []


def test_s17_a_cluster_without_endpoints_is_answered_by_an_empty_assignment(served: Served) -> None:
    served.set(TYPE_ENDPOINT, {})
    client = Script(served, "delta", PATIENCE)
    [clusters] = client.ask(TYPE_CLUSTER)
    client.ack(clusters)
    [endpoints] = client.ask(TYPE_ENDPOINT, subscribe=["old", "unknown"])
    assert [one.name for one in endpoints.resources] == ["old"]
    assert removed(endpoints) == ["unknown"]
    client.ack(endpoints)
    assert client.news() == []


def test_s17_an_assignment_asked_for_before_its_cluster_came_is_answered_when_it_comes(served: Served) -> None:
    served.set(TYPE_CLUSTER, {})
    served.set(TYPE_ENDPOINT, {})
    client = Script(served, "delta", PATIENCE)
    [endpoints] = client.ask(TYPE_ENDPOINT, subscribe=["old"])
    assert removed(endpoints) == ["old"]
    client.ack(endpoints)
    [clusters] = client.ask(TYPE_CLUSTER)
    client.ack(clusters)
    served.set(TYPE_CLUSTER, {"old": "1"})
    [_, endpoints] = client.news()
    assert [one.name for one in endpoints.resources] == ["old"]


def test_s17_a_cluster_that_was_removed_and_added_again_gets_its_endpoints(served: Served) -> None:
    client = Script(served, "delta", Patience(grace=0))
    [clusters] = client.ask(TYPE_CLUSTER)
    client.ack(clusters)
    [endpoints] = client.ask(TYPE_ENDPOINT, subscribe=["old"])
    client.ack(endpoints)
    served.set(TYPE_CLUSTER, {})
    [clusters] = client.news(TYPE_CLUSTER)
    assert removed(clusters) == ["old"]
    client.ack(clusters)
    served.set(TYPE_CLUSTER, {"old": "1"})
    assert kinds(client.news(TYPE_CLUSTER)) == ["CDS", "EDS"]


def test_t1_secrets_are_answered_in_part_and_a_rotation_sends_only_the_changed_one(served: Served) -> None:
    served.set(TYPE_SECRET, {"one": "1", "two": "1"})
    client = Script(served, "delta", PATIENCE)
    [secrets] = client.ask(TYPE_SECRET, subscribe=["one", "two", "missing"])
    assert sent(secrets) == {"one": "1", "two": "1"}
    client.ack(secrets)
    served.set(TYPE_SECRET, {"one": "2", "two": "1"})
    [rotated] = client.news()
    assert sent(rotated) == {"one": "2"}
