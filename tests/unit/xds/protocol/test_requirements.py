"""Routes and the configurations of filters that they name something of: no route is ever without what it names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.xds_script import Script, Served, entry, sent
from xds.protocol.ordering import Patience
from xds.resources import requirement
from xds.schema.type_urls import TYPE_CLUSTER, TYPE_EXTENSION_CONFIG, TYPE_LISTENER, TYPE_ROUTE, short

PATIENCE = Patience(warm=5, grace=5, leave=30, answer=10)


def kinds(responses: list[Any]) -> list[str]:
    return [short(response.type_url) for response in responses]


def route(version: str, *names: str) -> dict[str, Any]:
    return {"routes": entry("routes", version, needs=map(requirement, names))}


def filters(version: str, *names: str) -> dict[str, Any]:
    return {"filter": entry("filter", version, provides=map(requirement, names))}


@pytest.fixture
def served() -> Served:
    made = Served()
    made.set(TYPE_CLUSTER, {"c": "1"})
    made.set(TYPE_LISTENER, {"l": "1"})
    made.set(TYPE_ROUTE, route("1"))
    made.set(TYPE_EXTENSION_CONFIG, filters("1"))
    return made


@pytest.fixture(params=["delta", "sotw"])
def client(request: pytest.FixtureRequest, served: Served) -> Script:
    """A proxy that has everything."""
    made = Script(served, request.param, PATIENCE)
    for type_url, names in (
        (TYPE_CLUSTER, []),
        (TYPE_LISTENER, []),
        (TYPE_EXTENSION_CONFIG, ["filter"]),
        (TYPE_ROUTE, ["routes"]),
    ):
        [first] = made.ask(type_url, **naming(made, names))
        assert made.ack(first, **repeated(made, names)) == []
    return made


def naming(client: Script, names: list[str]) -> dict[str, Any]:
    return {"subscribe": names} if client.variant == "delta" else {"names": names}


def repeated(client: Script, names: list[str]) -> dict[str, Any]:
    return {} if client.variant == "delta" else {"names": names}


def ack(client: Script, response: Any) -> list[Any]:
    names = ["filter"] if response.type_url == TYPE_EXTENSION_CONFIG else ["routes"]
    return client.ack(response, **repeated(client, names))


def with_one(served: Served, client: Script) -> None:
    served.set(TYPE_EXTENSION_CONFIG, filters("2", "one"))
    served.set(TYPE_ROUTE, route("2", "one"))
    for response in client.news():
        ack(client, response)


def test_what_routes_begin_to_name_goes_first(served: Served, client: Script) -> None:
    served.set(TYPE_EXTENSION_CONFIG, filters("2", "one"))
    served.set(TYPE_ROUTE, route("2", "one"))
    assert kinds(client.news()) == ["ECDS", "RDS"]


def test_routes_wait_while_what_they_name_has_to_wait(served: Served, client: Script) -> None:
    served.set(TYPE_EXTENSION_CONFIG, filters("2"))
    [first] = client.news()
    served.set(TYPE_EXTENSION_CONFIG, filters("3", "one"))
    served.set(TYPE_ROUTE, route("2", "one"))
    assert client.news() == []
    answers = ack(client, first)
    assert kinds(answers) == ["ECDS", "RDS"]
    assert sent(answers[1]) == {"routes": "2"}


def test_routes_do_not_wait_for_ever(served: Served, client: Script) -> None:
    served.set(TYPE_ROUTE, route("2", "unheard-of"))
    assert client.news() == []
    assert kinds(client.wait(PATIENCE.warm)) == ["RDS"]


def test_what_routes_no_longer_name_goes_after_their_ack(served: Served, client: Script) -> None:
    with_one(served, client)
    served.set(TYPE_EXTENSION_CONFIG, filters("3"))
    served.set(TYPE_ROUTE, route("3"))
    [routes] = client.news()
    assert kinds([routes]) == ["RDS"]
    [last] = ack(client, routes)
    assert sent(last) == {"filter": "3"}


def test_what_means_something_else_goes_at_once(served: Served, client: Script) -> None:
    with_one(served, client)
    served.set(TYPE_EXTENSION_CONFIG, filters("3", "one"))
    assert kinds(client.news()) == ["ECDS"]


def test_a_client_that_never_acknowledges_its_routes_is_told_in_the_end(served: Served, client: Script) -> None:
    with_one(served, client)
    served.set(TYPE_EXTENSION_CONFIG, filters("3"))
    served.set(TYPE_ROUTE, route("3"))
    assert kinds(client.news()) == ["RDS"]
    assert kinds(client.wait(PATIENCE.leave)) == ["ECDS"]


def test_where_something_comes_and_something_goes_what_comes_does_not_wait(served: Served, client: Script) -> None:
    with_one(served, client)
    served.set(TYPE_EXTENSION_CONFIG, filters("3", "two"))
    served.set(TYPE_ROUTE, route("3", "two"))
    assert kinds(client.news()) == ["ECDS", "RDS"]
