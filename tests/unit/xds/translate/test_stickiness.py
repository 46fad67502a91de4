"""Clients that stay with a version: what Envoy is told to draw by, and the cookie that it gives."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.kinds.rollout import Stickiness, StickyCookie
from mesh.rollouts import Sticking
from xds.schema.rules import violations
from xds.schema.types import Route
from xds.translate.stickiness import set_stickiness


def route(sticky: Stickiness | None, *, given: bool = False, secure: bool = False) -> Any:
    made = Route()
    made.match.prefix = "/"
    for name in ("a", "b"):
        cluster = made.route.weighted_clusters.clusters.add()
        cluster.name, cluster.weight.value = name, 1
    set_stickiness(made, Sticking(sticky, given=given) if sticky is not None else None, secure=secure)
    assert violations(made) == []
    return made


def cookie(made: Any) -> str:
    (option,) = made.response_headers_to_add
    assert option.header.key == "set-cookie"
    value: str = option.header.value
    return value


def test_a_header_is_drawn_by() -> None:
    made = route(Stickiness(header="X-User"))
    assert made.route.weighted_clusters.use_hash_policy.value
    (policy,) = made.route.hash_policy
    assert policy.header.header_name == "x-user"
    assert not made.response_headers_to_add


def test_a_cookie_that_clients_have_is_drawn_by_and_none_is_made() -> None:
    for sticky in (StickyCookie(name="id"), StickyCookie(name="id", ttl="1h")):
        made = route(Stickiness(cookie=sticky))
        (policy,) = made.route.hash_policy
        assert (policy.cookie.name, policy.cookie.HasField("ttl")) == ("id", False)
        assert not made.response_headers_to_add


@pytest.mark.parametrize(
    ("ttl", "secure", "more"),
    [
        ("1h30m", False, "; Max-Age=5400; HttpOnly; SameSite=Lax"),
        ("0s", False, "; HttpOnly; SameSite=Lax"),
        ("1s", True, "; Max-Age=1; HttpOnly; SameSite=Lax; Secure"),
    ],
)
def test_who_has_no_cookie_is_drawn_by_the_id_that_it_is_given(ttl: str, secure: bool, more: str) -> None:
    made = route(Stickiness(cookie=StickyCookie(name="100%", ttl=ttl, path="/a%20b")), given=True, secure=secure)
    (policy,) = made.route.hash_policy
    assert policy.header.header_name == "x-request-id"
    assert cookie(made) == f"100%%=%REQ(X-REQUEST-ID)%; Path=/a%%20b{more}"


def test_where_there_is_no_choice_or_nobody_stays_nothing_changes() -> None:
    assert not route(None).route.hash_policy
    made = Route()
    made.route.cluster = "a"
    set_stickiness(made, Sticking(Stickiness(header="x")), secure=False)
    assert not made.route.hash_policy
    made = Route()
    made.direct_response.status = 500
    set_stickiness(made, Sticking(Stickiness(cookie=StickyCookie(name="a", ttl="1h")), given=True), secure=False)
    assert made.WhichOneof("action") == "direct_response"
    assert not made.response_headers_to_add
