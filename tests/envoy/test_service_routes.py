"""What sidecars see and how they route: by host and port, by exports, and by routes whose parent is a Service."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.model import Audience
from tests.support.routing import Server, backend_server, get, route, service, serving, wait_until
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy


def sidecar(namespace: str, name: str, port: int = 0) -> Audience:
    return Audience("sidecar", namespace, name, port, free_port() if port else 0, free_port())


def statuses(audience: Audience, *hosts: str) -> dict[str, int]:
    return {host: get(audience.egress_port, "/", host=host)[0] for host in hosts}


def test_a_sidecar_routes_by_host_and_port_and_stands_before_its_workload(tmp_path: Path, backend: Server) -> None:
    audience = sidecar("default", "echo", backend.server_port)
    text = service("echo", backend.server_port, ports=[{"name": "http", "port": 8080, "protocol": "HTTP"}])
    with serving(text, tmp_path, audience):
        known = ("echo", "echo:8080", "echo.default", "echo.default.svc.cluster.local:8080", "ECHO")
        expected = {**dict.fromkeys(known, 200), "echo:81": 404, "x": 404}
        assert statuses(audience, *expected) == expected
        assert get(audience.ingress_port, "/a//b/../c", host="whatever")[2]["path"] == "/a/c"


def test_a_sidecar_sees_its_namespace_and_what_others_export_to_it(tmp_path: Path, backend: Server) -> None:
    port = backend.server_port
    text = service("own", port, namespace="shop") + service("private", port)
    text += service("public", port, exportTo=["*"]) + service("given", port, exportTo=["shop"])
    text += service("elsewhere", port, exportTo=["bank"]) + service("kept", port, exportTo=["."])
    audience = sidecar("shop", "own")
    expected = {
        "own": 200, "own.shop": 200, "public.default": 200, "given.default:80": 200,
        "public": 404, "private.default": 404, "elsewhere.default": 404, "kept.default": 404,
    }  # fmt: skip
    with serving(text, tmp_path, audience):
        assert statuses(audience, *expected) == expected


PORTS = [{"name": "http", "port": 80, "protocol": "HTTP"}, {"name": "admin", "port": 81, "protocol": "HTTP"}]


def test_routes_of_a_service_apply_on_the_way_out_by_port_and_by_who_asks(tmp_path: Path, backend: Server) -> None:
    endpoints = [{"address": "127.0.0.1", "ports": {"http": backend.server_port, "admin": backend.server_port}}]
    text = service("echo", ports=PORTS, endpoints=endpoints, exportTo=["*"])
    marked = "\n  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-by, value: %s}]}}]"
    to_echo = "\n    backendRefs: [{name: echo, namespace: default, port: 80}]"
    parent = "{group: '', kind: Service, name: echo, namespace: default%s}"
    text += route(marked % "owner" + to_echo, hosts="[]", name="owner", parent=parent % "")
    consumer = route(marked % "consumer" + to_echo, hosts="[]", name="consumer", parent=parent % ", port: 81")
    text += consumer.replace("name: consumer}", "name: consumer, namespace: shop}")
    grant = """
kind: ReferenceGrant
metadata: {name: shop}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: "", kind: Service}]
---
"""
    for namespace, expected in (("shop", ["owner", "consumer"]), ("default", ["owner", "owner"])):
        audience = sidecar(namespace, "cart")
        with serving(text + grant, tmp_path, audience):
            got = [get(audience.egress_port, "/", host=f"echo.default:{port}") for port in (80, 81)]
            assert [answer[2]["headers"]["x-by"] for answer in got] == expected
    audience = sidecar("shop", "cart")
    with serving(text, tmp_path, audience):
        assert statuses(audience, "echo.default:80", "echo.default:81") == {
            "echo.default:80": 200,
            "echo.default:81": 500,
        }


def test_routes_of_a_service_split_redirect_mirror_and_refuse(tmp_path: Path, backend: Server) -> None:
    rules = """
  - matches: [{path: {value: /moved}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.default, statusCode: 301}}]
  - matches: [{path: {value: /only, type: Exact}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}]
    backendRefs: [{name: echo, port: 80, weight: 0}, {name: shadow, port: 80}]
"""
    audience = sidecar("default", "cart")
    with backend_server("shadow") as shadow:
        text = service("echo", backend.server_port) + service("shadow", shadow.server_port)
        text += route(rules, hosts="[]", parent="{group: '', kind: Service, name: echo}")
        with serving(text, tmp_path, audience):
            status, headers, _ = get(audience.egress_port, "/moved", host="echo")
            assert (status, headers["location"]) == (301, "http://new.default/moved")
            assert get(audience.egress_port, "/only", host="echo")[2]["who"] == "shadow"
            wait_until(lambda: len(shadow.seen) == 2)
            assert get(audience.egress_port, "/else", host="echo")[0] == 404
            assert get(audience.egress_port, "/else", host="shadow")[0] == 200
