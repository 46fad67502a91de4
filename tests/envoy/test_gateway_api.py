"""What the specification says of attaching, granting and sharing, by real requests, calls, connections and datagrams.

What belongs to one feature stands in that feature's own file; `tests/conformance/behaviours.yaml` says which behaviour
of the official suite is tried where.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from fairlead.processes import Children
from mesh.model import Audience
from tests.envoy.test_grpc_route import Caller, GrpcBackend, calling, grpc_backend
from tests.envoy.test_https import put
from tests.envoy.test_listener_sets import status
from tests.envoy.test_stream_routes import answered, said, said_plainly, tcp_backend, udp_backend
from tests.support.certificates import Authority, Pair
from tests.support.programs import Serving, start_backend, start_envoy, start_serve
from tests.support.routing import Server, document, get, route, service, serving, wait_until
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

GATEWAY_API = "gateway.networking.k8s.io"


def edge(*listeners: dict[str, Any], name: str = "edge", **spec: Any) -> str:
    return document("Gateway", name, {"gatewayClassName": "fairlead", "listeners": list(listeners), **spec})


def listener(name: str, port: int, protocol: str = "HTTP", **rest: Any) -> dict[str, Any]:
    return {"name": name, "port": port, "protocol": protocol, **rest}


def to(kind: str, name: str, parent: dict[str, Any], backend: str, *, created: str = "", **spec: Any) -> str:
    """A route to port 80 of a service, attached once."""
    backends = [{"name": backend, "port": 80}] if backend else []
    body = {"parentRefs": [{"name": "edge", **parent}], "rules": [{"backendRefs": backends}], **spec}
    return created_at(document(kind, name, body), created) if created else document(kind, name, body)


def created_at(text: str, created: str) -> str:
    """A document whose object was created then."""
    return text.replace('"metadata": {', f'"metadata": {{"creationTimestamp": "{created}", ', 1)


def tls_documents(authority: Authority, pair: Pair) -> str:
    """A listener's certificate as Secret `cert`, and the authority of backends as ConfigMap `ca`."""
    data = {"tls.crt": pair.cert.read_text(), "tls.key": pair.key.read_text()}
    secret = {"kind": "Secret", "metadata": {"name": "cert"}, "type": "kubernetes.io/tls", "stringData": data}
    ca = {"kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": authority.ca.read_text()}}
    return "".join(f"{json.dumps(one)}\n---\n" for one in (secret, ca))


def test_routes_of_other_namespaces_are_served_where_a_listener_lets_them_in(tmp_path: Path, backend: Server) -> None:
    every, chosen, same = free_port(), free_port(), free_port()
    selector = {"from": "Selector", "selector": {"matchLabels": {"team": "1"}}}
    text = edge(
        listener("every", every, allowedRoutes={"namespaces": {"from": "All"}}),
        listener("chosen", chosen, allowedRoutes={"namespaces": selector}),
        listener("same", same),
    )
    for namespace, team in (("red", "1"), ("blue", "2")):
        text += json.dumps({"kind": "Namespace", "metadata": {"name": namespace, "labels": {"team": team}}}) + "\n---\n"
        text += service("echo", backend.server_port, namespace=namespace)
        body = {
            "parentRefs": [{"name": "edge", "namespace": "default"}],
            "hostnames": [f"{namespace}.example.com"],
            "rules": [{"backendRefs": [{"name": "echo", "port": 80}]}],
        }
        text += document("HTTPRoute", "mine", body, namespace=namespace)
    with serving(text, tmp_path):
        got = {
            (port, name): status(port, f"{name}.example.com")
            for port in (every, chosen, same)
            for name in ("red", "blue")
        }
    assert got == {
        (every, "red"): 200,
        (every, "blue"): 200,
        (chosen, "red"): 200,
        (chosen, "blue"): 404,
        (same, "red"): 404,
        (same, "blue"): 404,
    }


def test_http_routes_attach_by_port_by_name_and_by_both(tmp_path: Path, backend: Server) -> None:
    one, two = free_port(), free_port()
    text = edge(listener("one", one), listener("two", two, hostname="two.com"), listener("any", two))
    parents = {
        "port.com": {"port": one},
        "two.com": {"sectionName": "two"},
        "both.com": {"sectionName": "any", "port": two},
        "wrong.com": {"sectionName": "one", "port": two},
    }
    for host, parent in parents.items():
        text += to("HTTPRoute", host.removesuffix(".com"), parent, "echo", hostnames=[host])
    with serving(text + service("echo", backend.server_port), tmp_path):
        assert {host: [status(port, host) for port in (one, two)] for host in parents} == {
            "port.com": [200, 404],
            "two.com": [404, 200],
            "both.com": [404, 200],
            "wrong.com": [404, 404],
        }


def test_a_route_of_two_gateways_answers_at_both_and_those_of_one_at_that_one_alone(
    tmp_path: Path, backend: Server
) -> None:
    first, second, calls_first, calls_second = (free_port() for _ in range(4))
    both = [{"name": "edge", "sectionName": "web"}, {"name": "inner", "sectionName": "web"}]
    both_calls = [{**ref, "sectionName": "calls"} for ref in both]
    with grpc_backend("calls") as calls:
        text = edge(listener("web", first), listener("calls", calls_first))
        text += edge(listener("web", second), listener("calls", calls_second), name="inner")
        text += service("echo", backend.server_port) + service("calls", calls.port)

        def web(name: str, parents: list[dict[str, Any]]) -> str:
            rule = {"matches": [{"path": {"value": f"/{name}"}}], "backendRefs": [{"name": "echo", "port": 80}]}
            return document("HTTPRoute", name, {"parentRefs": parents, "rules": [rule]})

        def call(name: str, parents: list[dict[str, Any]]) -> str:
            rule = {"matches": [{"method": {"service": name}}], "backendRefs": [{"name": "calls", "port": 80}]}
            return document("GRPCRoute", name, {"parentRefs": parents, "rules": [rule]})

        for make, parents in ((web, both), (call, both_calls)):
            text += make("shared", parents) + make("one", parents[:1]) + make("two", parents[1:])
        inner = Audience("gateway", "default", "inner")
        (tmp_path / "inner").mkdir()
        with (
            serving(text, tmp_path),
            serving(text, tmp_path / "inner", inner),
            calling(calls_first) as at_first,
            calling(calls_second) as at_second,
        ):
            paths = ("shared", "one", "two")
            assert [get(first, f"/{path}")[0] for path in paths] == [200, 200, 404]
            assert [get(second, f"/{path}")[0] for path in paths] == [200, 404, 200]
            assert [at_first(f"/{path}/Get") for path in paths] == ["calls", "calls", "UNIMPLEMENTED"]
            assert [at_second(f"/{path}/Get") for path in paths] == ["calls", "UNIMPLEMENTED", "calls"]


def test_calls_go_to_the_routes_of_the_listener_whose_hostname_they_name(tmp_path: Path) -> None:
    port = free_port()
    hosts = {"one": "bar.com", "two": "foo.bar.com", "three": "*.bar.com"}
    asked = {"bar.com": "one", "foo.bar.com": "two", "a.bar.com": "three", "b.a.bar.com": "three", "other.com": ""}
    with contextlib.ExitStack() as stack:
        text = edge(*(listener(name, port, hostname=host) for name, host in hosts.items()))
        for name in hosts:
            text += service(name, stack.enter_context(grpc_backend(name)).port)
            text += to("GRPCRoute", name, {"sectionName": name}, name)
        stack.enter_context(serving(text, tmp_path))
        got = {host: stack.enter_context(calling(port, host))("/shop.Reviews/Get") for host in asked}
    assert got == {host: name or "UNIMPLEMENTED" for host, name in asked.items()}


OLD, YOUNG = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"


def test_tcp_and_udp_routes_attach_by_port_by_name_by_both_and_by_neither(tmp_path: Path) -> None:
    a, b, c, rest = (free_port() for _ in range(4))
    text = edge(
        *(
            listener(f"{kind.lower()}-{n}", port, kind)
            for kind in ("TCP", "UDP")
            for n, port in zip("abcd", (a, b, c, rest), strict=True)
        )
    )
    with contextlib.ExitStack() as stack:
        for kind, serve in (("TCP", tcp_backend), ("UDP", udp_backend)):
            for name in ("by-port", "by-name", "by-both", "all"):
                text += service(f"{kind.lower()}-{name}", stack.enter_context(serve(name)), protocol=kind)
            ways = {
                "by-port": {"port": a},
                "by-name": {"sectionName": f"{kind.lower()}-b"},
                "by-both": {"sectionName": f"{kind.lower()}-c", "port": c},
            }
            for name, parent in ways.items():
                text += to(f"{kind}Route", f"{kind.lower()}-{name}", parent, f"{kind.lower()}-{name}", created=OLD)
            # The youngest: it has what nobody else has asked for. And one whose name and port do not go together.
            text += to(f"{kind}Route", f"{kind.lower()}-all", {}, f"{kind.lower()}-all", created=YOUNG)
            wrong = {"sectionName": f"{kind.lower()}-d", "port": a}
            text += to(f"{kind}Route", f"{kind.lower()}-wrong", wrong, f"{kind.lower()}-by-port", created=OLD)
        stack.enter_context(serving(text, tmp_path))
        expected = {a: "by-port", b: "by-name", c: "by-both", rest: "all"}
        assert {port: said_plainly(port) for port in expected} == expected
        # A datagram may be lost, a wrong answer would be none of these.
        wait_until(lambda: {port: answered(port) for port in expected} == expected)


def test_connections_to_backends_that_cannot_be_had_are_closed_and_the_other_server_names_served(
    tmp_path: Path,
) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    text = edge(listener("tls", port, "TLS", tls={"mode": "Passthrough"}))
    with tcp_backend("good", authority.server("own")) as good:
        text += service("good", good, protocol="TCP") + service("theirs", good, protocol="TCP", namespace="other")
        refs: dict[str, list[dict[str, Any]]] = {
            "good.com": [{"name": "good", "port": 80}],
            "gone.com": [{"name": "gone", "port": 80}],
            "kind.com": [{"group": "example.com", "kind": "Bucket", "name": "b", "port": 80}],
            "shut.com": [{"name": "theirs", "namespace": "other", "port": 80}],
        }
        for host, backends in refs.items():
            spec = {"parentRefs": [{"name": "edge"}], "hostnames": [host], "rules": [{"backendRefs": backends}]}
            text += document("TLSRoute", host.removesuffix(".com"), spec)
        with serving(text, tmp_path):
            assert {host: said(port, host)[1] for host in refs} == {
                "good.com": "good",
                "gone.com": "",
                "kind.com": "",
                "shut.com": "",
            }


def test_of_two_policies_for_a_backend_the_older_one_counts_for_requests_calls_and_decrypted_connections(
    tmp_path: Path,
) -> None:
    calls_port, tls_port = free_port(), free_port()
    authority = Authority(tmp_path)
    with contextlib.ExitStack() as stack:
        calls = stack.enter_context(_grpc_tls("calls", authority.named("calls", "shop.example.com")))
        raw = stack.enter_context(tcp_backend("raw", authority.named("raw", "shop.example.com")))
        text = tls_documents(authority, authority.server("edge"))
        text += edge(
            listener("calls", calls_port),
            listener("tls", tls_port, "TLS", tls={"certificateRefs": [{"name": "cert"}]}),
        )
        text += service("calls", calls, protocol="TLS") + service("raw", raw, protocol="TLS")
        for target in ("calls", "raw"):
            text += _policy(f"{target}-young", target, "other.example.com", YOUNG)
            text += _policy(f"{target}-old", target, "shop.example.com", OLD)
        text += to("GRPCRoute", "calls", {"sectionName": "calls"}, "calls")
        text += to("TLSRoute", "raw", {"sectionName": "tls"}, "raw", hostnames=["a.com"])
        stack.enter_context(serving(text, tmp_path))
        call: Caller = stack.enter_context(calling(calls_port))
        assert call("/shop.Reviews/Get") == "calls"
        assert said(tls_port, "a.com") == ("edge", "raw")


def _policy(name: str, target: str, hostname: str, created: str) -> str:
    validation = {"hostname": hostname, "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    refs = [{"group": "", "kind": "Service", "name": target}]
    text = document("BackendTLSPolicy", name, {"targetRefs": refs, "validation": validation})
    return created_at(text, created)


@contextlib.contextmanager
def _grpc_tls(name: str, pair: Pair) -> Iterator[int]:
    """A gRPC server over TLS; its port."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=[GrpcBackend(name)])
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def test_a_request_has_its_time_for_all_tries_together(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    rules = """
  - matches: [{path: {value: /slow}}]
    retry: {codes: [500], attempts: 5, backoff: 1ms}
    timeouts: {request: 500ms, backendRequest: 200ms}
    backendRefs: [{name: echo, port: 80}]
  - matches: [{path: {value: /fail}}]
    retry: {codes: [500], attempts: 2, backoff: 1ms}
    timeouts: {request: 10s}
    backendRefs: [{name: echo, port: 80}]"""
    with serving(edge(listener("web", port)) + service("echo", backend.server_port) + route(rules), tmp_path):
        assert get(port, "/slow")[0] == 504
        # Two tries of 200 ms fit, the third is cut off; all six would take 1.2 s.
        assert len(backend.seen) <= 3
        assert get(port, "/fail/500")[0] == 200


def test_a_grant_that_goes_takes_the_traffic_with_it_and_that_of_no_other_route(
    tmp_path: Path, children: Children
) -> None:
    web, tcp = free_port(), free_port()
    running = start_serve(children)
    spec = {"gatewayClassName": "fairlead", "listeners": [listener("web", web), listener("tcp", tcp, "TCP")]}
    put(running, "Gateway", "gateways", "edge", spec=spec)
    with tcp_backend("raw") as raw:
        for name, port, protocol in (("shop", start_backend(children, "shop"), "HTTP"), ("raw", raw, "TCP")):
            endpoints = [{"address": "127.0.0.1", "ports": {"p": port}}]
            ports = [{"name": "p", "port": 80, "protocol": protocol}]
            body = {
                "apiVersion": "fairlead.dev/v1alpha1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "theirs"},
                "spec": {"ports": ports, "endpoints": endpoints},
            }
            running.client.request("PUT", f"/api/v1/namespaces/theirs/services/{name}", body=body)
        own = [{"address": "127.0.0.1", "ports": {"p": start_backend(children, "own")}}]
        put(running, "Service", "services", "own", spec={"ports": [{"name": "p", "port": 80}], "endpoints": own})
        grant = {
            "from": [
                {"group": GATEWAY_API, "kind": kind, "namespace": "default"} for kind in ("HTTPRoute", "TCPRoute")
            ],
            "to": [{"group": "", "kind": "Service"}],
        }
        body = {
            "apiVersion": f"{GATEWAY_API}/v1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "all", "namespace": "theirs"},
            "spec": grant,
        }
        granted = "/api/v1/namespaces/theirs/referencegrants/all"
        running.client.request("PUT", granted, body=body)
        _put_route(
            running, "HTTPRoute", "theirs", "web", {"name": "shop", "namespace": "theirs"}, hostnames=["theirs.com"]
        )
        _put_route(running, "HTTPRoute", "own", "web", {"name": "own"}, hostnames=["own.com"])
        _put_route(running, "TCPRoute", "raw", "tcp", {"name": "raw", "namespace": "theirs"})
        start_envoy(children, "gateway", "edge", xds=running.xds)
        children.wait_until(lambda: status(web, "theirs.com") == 200, what="the granted backend")
        children.wait_until(lambda: said_plainly(tcp) == "raw", what="the granted connection")

        running.client.request("DELETE", granted)
        children.wait_until(lambda: status(web, "theirs.com") == 500, what="the grant to be gone")
        children.wait_until(lambda: said_plainly(tcp) == "", what="connections to be closed")
        assert status(web, "own.com") == 200
        running.client.request("PUT", granted, body=body)
        children.wait_until(lambda: status(web, "theirs.com") == 200, what="the grant to be back")
        children.wait_until(lambda: said_plainly(tcp) == "raw", what="connections to be back")


def _put_route(running: Serving, kind: str, name: str, section: str, backend: dict[str, str], **spec: Any) -> None:
    parents = [{"name": "edge", "sectionName": section}]
    rules = [{"backendRefs": [{**backend, "port": 80}]}]
    put(running, kind, f"{kind.lower()}s", name, spec={"parentRefs": parents, "rules": rules, **spec})


def test_listeners_come_and_go_and_the_routes_of_the_others_are_served_on(children: Children) -> None:
    first, second = free_port(), free_port()
    running = start_serve(children)
    endpoints = [{"address": "127.0.0.1", "ports": {"p": start_backend(children, "shop")}}]
    put(running, "Service", "services", "shop", spec={"ports": [{"name": "p", "port": 80}], "endpoints": endpoints})
    put(
        running,
        "HTTPRoute",
        "httproutes",
        "shop",
        spec={"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "shop", "port": 80}]}]},
    )

    def listen(*ports: int) -> None:
        listeners = [listener(f"on-{port}", port) for port in ports]
        put(running, "Gateway", "gateways", "edge", spec={"gatewayClassName": "fairlead", "listeners": listeners})

    def counts() -> dict[str, int]:
        found = running.client.get("/api/v1/namespaces/default/gateways/edge")["status"]["listeners"]
        return {one["name"]: one["attachedRoutes"] for one in found}

    listen(first)
    start_envoy(children, "gateway", "edge", xds=running.xds)
    children.wait_until(lambda: status(first, "a.com") == 200, what="the first listener")
    listen(first, second)
    children.wait_until(lambda: status(second, "a.com") == 200, what="the second listener")
    assert counts() == {f"on-{first}": 1, f"on-{second}": 1}
    listen(second)
    children.wait_until(lambda: status(first, "a.com") == 0, what="the first listener to close")
    assert status(second, "a.com") == 200
    assert counts() == {f"on-{second}": 1}
