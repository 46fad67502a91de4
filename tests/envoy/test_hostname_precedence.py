"""Routes for one hostname of a listener at a real Envoy: what they name themselves decides, not what is left of it.

The listener's own hostname is what remains of a wider one, so that an exact route and one of a wildcard answer for the
same host there (GatewayRouteHostnameIntersectionPrecedence, Gateway API v1.7).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.envoy.test_grpc_route import calling, grpc_backend, grpc_route
from tests.envoy.test_stream_routes import said, tcp_backend
from tests.support.certificates import Authority
from tests.support.routing import Server, backend_server, document, gateway, get, route, service, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

HOST = "abc.example.com"
OLD = "2024-01-01T00:00:00Z"


def of_age(text: str, created: str) -> str:
    """A route that was created then."""
    return text.replace("metadata: {", f"metadata: {{creationTimestamp: '{created}', ", 1)


@pytest.mark.parametrize(
    ("listener", "wide", "narrow"),
    [
        (HOST, '["*.example.com"]', f"[{HOST}]"),
        ("*.example.com", '["*.com"]', '["*.example.com"]'),
        (HOST, "[]", f"[{HOST}]"),
    ],
    ids=["exact", "wildcard", "none"],
)
def test_a_route_for_the_very_hostname_comes_before_an_older_one_that_matches_more(
    tmp_path: Path, backend: Server, listener: str, wide: str, narrow: str
) -> None:
    port = free_port()
    longer = """
  - matches: [{path: {value: /path/prefix}, headers: [{name: b, value: b}]}]
    backendRefs: [{name: old, port: 80}]"""
    shorter = """
  - matches: [{path: {value: /path}, headers: [{name: a, value: a}]}]
    backendRefs: [{name: young, port: 80}]"""
    with backend_server("young") as young:
        text = gateway(port, listener) + service("old", backend.server_port) + service("young", young.server_port)
        text += of_age(route(longer, hosts=wide, name="old"), OLD) + route(shorter, hosts=narrow, name="young")
        with serving(text, tmp_path):
            answers = [
                get(port, "/path/prefix/longer", HOST, a="a", b="b"),
                get(port, "/path/prefix/longer", HOST, b="b"),
                get(port, "/path", HOST, b="b"),
            ]
    assert [answer[2]["who"] if answer[2] else answer[0] for answer in answers] == ["young", backend.name, 404]


def test_the_same_holds_of_calls(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        old, young = (stack.enter_context(grpc_backend(name)) for name in ("old", "young"))
        both = (
            "\n  - matches: [{method: {service: shop.Reviews, method: Get}}]\n    backendRefs: [{name: old, port: 80}]"
        )
        one = "\n  - matches: [{method: {service: shop.Reviews}, headers: [{name: a, value: a}]}]"
        one += "\n    backendRefs: [{name: young, port: 80}]"
        text = gateway(port, HOST) + service("old", old.port) + service("young", young.port)
        text += grpc_route(both, hosts='["*.example.com"]', name="old", created=OLD)
        text += grpc_route(one, hosts=f"[{HOST}]", name="young")
        stack.enter_context(serving(text, tmp_path))
        call = stack.enter_context(calling(port, HOST))
        assert [call("/shop.Reviews/Get", ("a", "a")), call("/shop.Reviews/Get")] == ["young", "old"]


@pytest.mark.parametrize(
    ("listener", "wide", "narrow"),
    [(HOST, "*.example.com", HOST), ("*.example.com", "*.com", "*.example.com")],
    ids=["exact", "wildcard"],
)
def test_the_same_holds_of_server_names(tmp_path: Path, listener: str, wide: str, narrow: str) -> None:
    port = free_port()
    authority = Authority(tmp_path)

    def tls_route(name: str, hostname: str, created: str) -> str:
        refs = [{"name": name, "port": 80}]
        spec = {"parentRefs": [{"name": "edge"}], "hostnames": [hostname], "rules": [{"backendRefs": refs}]}
        return document("TLSRoute", name, spec).replace(
            '"metadata": {', f'"metadata": {{"creationTimestamp": "{created}", '
        )

    tls = {"name": "tls", "port": port, "protocol": "TLS", "hostname": listener, "tls": {"mode": "Passthrough"}}
    with (
        tcp_backend("old", authority.server("own-old")) as old,
        tcp_backend("young", authority.server("own-young")) as young,
    ):
        text = document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": [tls]})
        text += service("old", old, protocol="TCP") + service("young", young, protocol="TCP")
        text += tls_route("old", wide, OLD) + tls_route("young", narrow, "2025-01-01T00:00:00Z")
        with serving(text, tmp_path):
            assert said(port, HOST) == ("own-young", "young")
