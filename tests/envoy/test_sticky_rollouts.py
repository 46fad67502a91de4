"""Clients that stay with their version while a Rollout gives the canary more: by a header, or by a cookie."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import Serving, reached, start_envoy, start_serve
from tests.support.routing import Server, backend_server
from tests.support.serving_objects import put, service

pytestmark = pytest.mark.envoy

HOST = "shop.example.com"
PATH = "/api/v1/namespaces/default/rollouts/shop"
STEPS = [20, 50, 80]
CLIENTS = 100


class Shop:
    """A gateway before two versions, and a Rollout whose steps wait for an approval."""

    def __init__(self, children: Children, stable: Server, canary: Server) -> None:
        self._children = children
        self.serving: Serving = start_serve(children)
        self.port = free_port()
        service(self.serving, "shop", stable.server_port)
        service(self.serving, "shop-v2", canary.server_port)
        listeners = [{"name": "http", "port": self.port, "protocol": "HTTP"}]
        put(self.serving, "Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
        refs = [{"name": "shop", "port": 80}]
        spec = {"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": [{"backendRefs": refs}]}
        put(self.serving, "HTTPRoute", "shop", spec)
        start_envoy(children, "gateway", "edge", xds=self.serving.xds)
        children.wait_until(lambda: reached(self.port, HOST), what="the gateway to answer")

    def begin(self, **spec: Any) -> None:
        """Roll out, and wait until the first step is at the proxy."""
        steps = [{"weight": weight, "pause": "0s", "approval": True} for weight in STEPS]
        target = {"targetRef": {"kind": "HTTPRoute", "name": "shop"}, "stable": {"name": "shop"}}
        canary = {"name": "shop-v2", "port": 80}
        put(self.serving, "Rollout", "shop", {**target, "canary": canary, "steps": steps, **spec})
        self.step(1)

    def step(self, number: int) -> None:
        """Wait until the proxy has what the step says."""

        def there() -> bool:
            state = self.serving.client.get(PATH).get("status", {}).get("rollout", {})
            return bool(state.get("step") == number)

        self._children.wait_until(there, what=f"step {number}")
        if number == 1:
            self._children.wait_until(lambda: "canary" in {self.who()[0] for _ in range(20)}, what="the canary's share")

    def next(self, number: int) -> None:
        """Approve the present step, so that this one begins, and wait until the proxy has acknowledged its routes."""
        self.serving.client.request("POST", f"{PATH}/resume")
        self.step(number)

    def who(self, **headers: str) -> tuple[str, str]:
        """Which version answers, and the cookie that it gives."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", "/", headers={"host": HOST, **named})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200
            return ("canary" if b'"who": "canary"' in body else "stable"), answer.getheader("set-cookie") or ""
        finally:
            connection.close()


@pytest.fixture
def shop(children: Children) -> Iterator[Shop]:
    with backend_server("stable") as stable, backend_server("canary") as canary:
        yield Shop(children, stable, canary)


def versions(ask: Callable[[str], str], clients: list[str]) -> dict[str, str]:
    return {client: ask(client) for client in clients}


def stays_as_it_grows(children: Children, shop: Shop, ask: Callable[[str], str], clients: list[str]) -> None:
    """At each step each client gets the same each time, about as many as the step says get the canary, and none that
    once had it gets the old version again.
    """
    before: set[str] = set()
    for number, weight in enumerate(STEPS, 1):
        if number > 1:
            shop.next(number)
        least = len(clients) * weight / 100 - 5 * (len(clients) * 0.25) ** 0.5

        def have_it() -> set[str]:
            return {client for client, version in versions(ask, clients).items() if version == "canary"}

        children.wait_until(lambda least=least: len(have_it()) >= least, what=f"{weight} % at the proxy", timeout=60)
        now = have_it()
        assert now == have_it(), "each stays"
        assert before <= now, "the canary's clients stay with it"
        assert abs(len(now) - len(clients) * weight / 100) <= 5 * (len(clients) * 0.25) ** 0.5
        before = now


@pytest.mark.shows("Rollout.sticky", "header")
def test_a_client_is_known_by_a_header(children: Children, shop: Shop) -> None:
    shop.begin(sticky={"header": "X-User"})
    users = [f"user-{number}" for number in range(CLIENTS)]
    stays_as_it_grows(children, shop, lambda user: shop.who(x_user=user)[0], users)
    assert {shop.who()[0] for _ in range(100)} == {"canary", "stable"}, "who is not known is drawn anew each time"


def test_a_client_is_known_by_a_cookie_of_the_application(children: Children, shop: Shop) -> None:
    shop.begin(sticky={"cookie": {"name": "session"}})
    sessions = [f"s{number}" for number in range(CLIENTS)]

    def ask(session: str) -> str:
        version, given = shop.who(cookie=f"a=b; session={session}; c=d")
        assert given == ""
        return version

    stays_as_it_grows(children, shop, ask, sessions)
    assert shop.who()[1] == "", "no cookie is given that was not asked for"


@pytest.mark.shows("Rollout.sticky.cookie", "name", "ttl", "path")
def test_a_client_without_a_cookie_is_given_one_and_stays_from_its_first_answer_on(
    children: Children, shop: Shop
) -> None:
    cohort = [{"header": {"name": "x-canary", "value": "yes"}}]
    shop.begin(sticky={"cookie": {"name": "shop-version", "ttl": "1h", "path": "/"}}, cohort=cohort)
    first: dict[str, str] = {}
    for _ in range(CLIENTS):
        version, given = shop.who()
        form = re.fullmatch(r"shop-version=([0-9a-f-]{36}); Path=/; Max-Age=3600; HttpOnly; SameSite=Lax", given)
        assert form is not None, given
        first[form[1]] = version
    assert len(first) == CLIENTS

    def ask(cookie: str) -> str:
        version, given = shop.who(cookie=f"shop-version={cookie}")
        assert given == "", "who has one gets no other"
        return version

    assert versions(ask, list(first)) == first
    assert {shop.who(cookie=f"shop-version={cookie}", x_canary="yes")[0] for cookie in first} == {"canary"}
    stays_as_it_grows(children, shop, ask, list(first))
    shop.serving.client.request("POST", f"{PATH}/abort")
    children.wait_until(lambda: set(versions(ask, list(first)).values()) == {"stable"}, what="all to be taken back")
