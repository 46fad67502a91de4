"""Names are made from identity and can be taken apart again."""

from __future__ import annotations

import pytest

from mesh.backends import Backend
from mesh.model import Audience, ServiceKey
from xds.translate.names import (
    MISSING_CLUSTER,
    audience_of,
    audience_scope,
    backend_of,
    cluster_name,
    gateway_listeners_scope,
    gateway_of,
    listener_name,
    members_of,
    stat_name,
    with_members,
)

REVIEWS = ServiceKey("default", "reviews")


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        (Backend(REVIEWS, 80), "default/reviews:80"),
        (Backend(REVIEWS, 80, "v2"), "default/reviews:80@v2"),
        (Backend(REVIEWS, 80, own=True), "default/reviews:80~own"),
        (Backend(ServiceKey("backend", "reviews"), 80), "backend/reviews:80"),
        (Backend(ServiceKey("default", "a.b"), 0, outside=True), "backend/default/a.b"),
        (
            Backend(ServiceKey("default", "a"), 0, http2=True, route_retry=True, outside=True),
            "backend/default/a~route-retry~http2",
        ),
        (Backend(ServiceKey("default", "a"), 0, raw=True, outside=True), "backend/default/a~raw"),
        (Backend(REVIEWS, 80, "v2", own=True, canary_of="a/b.c"), "default/reviews:80@v2~own~canary/a/b.c"),
        (Backend(ServiceKey("x", "y"), 0, outside=True, canary_of="a/b"), "backend/x/y~canary/a/b"),
        (
            Backend(REVIEWS, 80, route_retry=True, failover=("default/spare:80~own", "backend/x/y")),
            "default/reviews:80~route-retry~failover/default/spare:80~own,backend/x/y",
        ),
    ],
)
def test_a_cluster_is_named_after_its_backend_and_back(backend: Backend, name: str) -> None:
    assert cluster_name(backend) == name
    assert backend_of(name) == backend


def test_a_cluster_with_failover_names_those_behind_it() -> None:
    name = cluster_name(Backend(REVIEWS, 80, "v2", failover=("default/spare:80~own", "backend/x/y")))
    assert members_of(name) == ("default/reviews:80@v2", "default/spare:80~own", "backend/x/y")
    assert with_members(name) == (name, *members_of(name))
    assert members_of("default/reviews:80~own") == ()
    assert with_members("default/reviews:80") == ("default/reviews:80",)


@pytest.mark.parametrize(
    "name", [MISSING_CLUSTER, "localhost:8080", "localhost:8080~http2", "a/b:x", "udproute/default/dns"]
)
def test_other_clusters_stand_for_no_backend(name: str) -> None:
    assert backend_of(name) is None


def test_a_sidecar_is_found_again_in_the_scope_of_its_resources() -> None:
    audience = Audience("sidecar", "default", "reviews", 8080, 15006, 15001)
    assert audience_of(audience_scope(audience)) == audience


@pytest.mark.parametrize("sotw", [False, True])
def test_a_gateway_is_found_again_in_the_scope_of_its_listeners(sotw: bool) -> None:
    assert gateway_of(gateway_listeners_scope("default", "sotw", sotw=sotw)) == ("default", "sotw", sotw)


def test_stat_names_have_no_dots() -> None:
    assert stat_name(listener_name("10.0.0.1", 80)) == "10_0_0_1_80"
    assert stat_name(listener_name("::", 80)) == "any_80"
