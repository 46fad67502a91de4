"""Envoys of the last three minors: everything that translation makes is taken by all of them and does what it should;
what an older one does not know is kept from it and told of.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from tests.envoy.test_route_policy import raw
from tests.support.certificates import Authority
from tests.support.envoys import envoy_of
from tests.support.ext_proc import processor
from tests.support.programs import RunningEnvoy, Serving, ask, start_envoy, start_serve
from tests.support.routing import Server, backend_server, get
from tests.support.xds_client import TinyMesh, resource, serving, until
from xds.resources import Resource
from xds.schema import from_dict
from xds.schema.type_urls import PREFIX, TYPE_LISTENER
from xds.schema.types import NAMES, Listener

pytestmark = pytest.mark.envoy

VERSIONS = ("1.38.3", "1.39.3", "1.40.0")
HOST = "all.example.com"
MORE_HOST = "more.example.com"
SUBSET = "{group: fairlead.dev, kind: ServiceSubset, name: two, port: 80}"

# Every feature that translation has a module for, each on a path of its own.
RULES = {
    "/fail": "retry: {codes: [503], attempts: 3, backoff: 10ms}, backendRefs: [{name: one, port: 80}]",
    "/slow": "timeouts: {request: 2s, backendRequest: 300ms}, backendRefs: [{name: one, port: 80}]",
    "/mirrored": "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: two, port: 80}}}],"
    " backendRefs: [{name: one, port: 80}]",
    "/prefix": "filters: [{type: URLRewrite, urlRewrite: {hostname: in.example.com, path:"
    " {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}], backendRefs: [{name: one, port: 80}]",
    "/full": "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /whole}}}],"
    " backendRefs: [{name: one, port: 80}]",
    "/moved": "filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: b.org, port: 8443,"
    " statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /there}}}]",
    "/headers": "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: 1%}],"
    " remove: [x-gone]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-add, value: a}]}}],"
    " backendRefs: [{name: one, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier:"
    " {add: [{name: x-backend, value: b}]}}]}]",
    "/cors": "filters: [{type: CORS, cors: {allowOrigins: ['https://app.example.com', 'https://*.example.org'],"
    " allowMethods: [GET], allowHeaders: [x-one], exposeHeaders: [x-two], allowCredentials: true, maxAge: 60}}],"
    " backendRefs: [{name: one, port: 80}]",
    "/split": f"backendRefs: [{{name: one, port: 80, weight: 1}}, {{{SUBSET[1:-1]}, weight: 1}}]",
    "/subset": f"backendRefs: [{SUBSET}]",
    "/missing": "backendRefs: [{name: nobody, port: 80}]",
    "/empty": "backendRefs: [{name: empty, port: 80}]",
}
# Filters of a route's own, each in a place that its route fills in.
MORE_RULES = {
    "/judged": "filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: two, port: 80},"
    " http: {path: /judge, allowedResponseHeaders: [x-judge]}}}], backendRefs: [{name: one, port: 80}]",
    "/own-path": "backendRefs: [{name: one, port: 80, filters: [{type: URLRewrite, urlRewrite: {path:"
    " {type: ReplacePrefixMatch, replacePrefixMatch: /theirs}}}]}]",
    "/coded": "name: coded, backendRefs: [{name: one, port: 80}]",
    "/kept": "name: kept, backendRefs: [{name: one, port: 80}]",
}
POLICIES = {
    "coded": "extensions: [{extProc: {backend: {name: beside, port: 80}, messageTimeout: 5s}},"
    " {lua: {inline: \"function envoy_on_request(handle) handle:headers():add('x-lua', 'yes') end\"}}]",
    "kept": "requestBuffer: {maxBytes: 10}, grpcWeb: false",
}


def config(*, plain: int, tls: int, sidecar: int, one: int, two: int, beside: int, certificate: tuple[str, str]) -> str:
    """Objects that make translation emit all it can."""
    rules, more = (
        "".join(f"\n  - {{matches: [{{path: {{value: {path}}}}}], {rule}}}" for path, rule in some.items())
        for some in (RULES, MORE_RULES)
    )
    target = "group: gateway.networking.k8s.io, kind: HTTPRoute, name: more"
    policies = "".join(
        "\n---\n{apiVersion: fairlead.dev/v1alpha1, kind: RoutePolicy, metadata: {name: " + name + "},"
        f" spec: {{targetRefs: [{{{target}, sectionName: {name}}}], {said}}}}}"
        for name, said in POLICIES.items()
    )
    data = json.dumps(dict(zip(("tls.crt", "tls.key"), certificate, strict=True)))
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: fairlead
  listeners:
  - {{name: http, port: {plain}, protocol: HTTP}}
  - {{name: https, port: {tls}, protocol: HTTPS, hostname: "*.example.com", tls: {{certificateRefs: [{{name: cert}}]}}}}
  - {{name: other, port: {tls}, protocol: HTTPS, hostname: "*.org", tls: {{certificateRefs: [{{name: cert}}]}}}}
---
{{apiVersion: v1, kind: Secret, metadata: {{name: cert}}, type: kubernetes.io/tls, stringData: {data}}}
---
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: one}}
spec:
  ports: [{{name: http, port: 80}}, {{name: h2, port: 81, protocol: HTTP2}}, {{name: grpc, port: 82, protocol: GRPC}}]
  endpoints:
  - {{address: 127.0.0.1, ports: {{http: {one}, h2: {one}, grpc: {one}}}}}
---
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: two}}
spec: {{ports: [{{name: http, port: 80}}], endpoints: [{{address: 127.0.0.1, ports: {{http: {two}}}}}]}}
---
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: beside}}
spec: {{ports: [{{name: http, port: 80}}], endpoints: [{{address: 127.0.0.1, ports: {{http: {beside}}}}}]}}
---
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: both}}
spec:
  ports: [{{name: http, port: 80}}]
  endpoints:
  - {{address: 127.0.0.1, ports: {{http: {one}}}, labels: {{version: "1"}}, zone: a}}
  - {{address: 127.0.0.1, ports: {{http: {two}}}, labels: {{version: "2"}}, zone: b, weight: 2, priority: 1}}
  - {{address: 127.0.0.1, ports: {{http: 1}}, labels: {{version: "2"}}, zone: b, health: Draining}}
---
apiVersion: fairlead.dev/v1alpha1
kind: ServiceSubset
metadata: {{name: two}}
spec: {{service: both, labels: {{version: "2"}}}}
---
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: empty}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: fairlead.dev/v1alpha1
kind: Service
metadata: {{name: cart}}
spec: {{ports: [{{name: http, port: 80}}], endpoints: [{{address: 127.0.0.1, ports: {{http: {sidecar}}}}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: all}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [{HOST}]
  rules:
  - matches:
    - path: {{type: RegularExpression, value: "/re[0-9]+"}}
      method: GET
      headers: [{{name: x-one, value: "1"}}, {{type: RegularExpression, name: x-two, value: "a|b"}}]
      queryParams: [{{name: q, value: "1"}}]
    backendRefs: [{{name: two, port: 80}}]
  - matches: [{{path: {{value: /h2}}}}]
    backendRefs: [{{name: one, port: 81}}]
  - matches: [{{path: {{value: /grpc}}}}]
    backendRefs: [{{name: one, port: 82}}]{rules}
  - backendRefs: [{{name: one, port: 80}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: more}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [{MORE_HOST}, "*.{MORE_HOST}"]
  rules:{more}{policies}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: wide}}
spec: {{parentRefs: [{{name: edge}}], hostnames: ["*.wide.org"], rules: [{{backendRefs: [{SUBSET}]}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: outgoing}}
spec:
  parentRefs: [{{group: fairlead.dev, kind: Service, name: one}}]
  rules: [{{matches: [{{path: {{value: /out}}}}], backendRefs: [{SUBSET}]}}, {{backendRefs: [{{name: one, port: 80}}]}}]
"""


@pytest.fixture
def one() -> Iterator[Server]:
    with backend_server("one") as server:
        yield server


@pytest.fixture
def outside() -> Iterator[ExitStack]:
    """What ends with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def two() -> Iterator[Server]:
    with backend_server("two") as server:
        yield server


def who(port: int, path: str, host: str = HOST, **headers: str) -> str:
    """The backend that answered, or the status."""
    status, _, body = get(port, path, host, **headers)
    return str(body["who"]) if body else str(status)


def over_tls(port: int) -> int:
    """The status of a request to the HTTPS listener."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status


def refused(envoy: RunningEnvoy) -> dict[str, int]:
    """Envoy's own counters of updates that it rejected or could not use, those above 0."""
    stats = json.loads(envoy.get("/stats?format=json&filter=(update_rejected|config_reload_failure|conflict)"))["stats"]
    assert stats
    return {stat["name"]: stat["value"] for stat in stats if stat["value"]}


def states(program: Serving) -> list[dict[str, Any]]:
    """Of every proxy, the state of every type."""
    return [one for proxy in program.client.get("/api/v1/proxies")["items"] for one in proxy["types"].values()]


def check_gateway(port: int, one: Server, two: Server) -> None:
    """Requests to every feature."""
    assert who(port, "/") == "one"
    assert who(port, "/re7?q=1", x_one="1", x_two="b") == "two"
    assert who(port, "/re7?q=2", x_one="1", x_two="b") == "one"
    assert (get(port, "/fail/503", HOST)[0], sum(each["path"] == "/fail/503" for each in one.seen)) == (200, 2)
    assert get(port, "/slow", HOST)[0] == 504
    one.released.set()
    assert who(port, "/mirrored") == "one"
    assert get(port, "/prefix/x", HOST)[2]["path"] == "/new/x"
    assert get(port, "/full/x", HOST)[2]["path"] == "/whole"
    assert get(port, "/moved/x", HOST)[1]["location"] == "https://b.org:8443/there/x"
    _, answered, arrived = get(port, "/headers", HOST, x_gone="1")
    assert (answered["x-add"], arrived["headers"]["x-set"], arrived["headers"]["x-backend"]) == ("a", "1%", "b")
    assert "x-gone" not in arrived["headers"]
    _, answered, _ = get(port, "/cors", HOST, origin="https://a.example.org")
    assert answered["access-control-allow-origin"] == "https://a.example.org"
    assert {who(port, "/split") for _ in range(40)} == {"one", "two"}
    assert {who(port, "/subset") for _ in range(4)} == {"two"}
    assert [who(port, path) for path in ("/missing", "/empty")] == ["500", "503"]
    assert who(port, "/", "x.wide.org") == "two"
    assert who(port, "/", "nobody.org") == "404"
    assert any(request["path"] == "/mirrored" for request in two.seen)


def check_more(port: int, one: Server, two: Server, host: str) -> None:
    """Requests to what a route holds of filters of its own."""
    assert get(port, "/own-path/x", host)[2]["path"] == "/theirs/x"
    two.seen.clear()
    _, _, arrived = get(port, "/judged", host, x_judge="forged")
    assert (arrived["who"], "x-judge" in arrived["headers"]) == ("one", False)
    assert any(request["path"] == "/judge/judged" for request in two.seen)
    _, _, arrived = get(port, "/coded", host)
    assert (arrived["headers"]["x-processed"], arrived["headers"]["x-lua"]) == ("/coded", "yes")
    assert [raw(port, "/kept", "POST", b"x" * size, host=host)[0] for size in (10, 11)] == [200, 413]
    for path, arrives in (("/kept", "application/grpc-web"), ("/own-path/x", "application/grpc")):
        raw(port, path, "POST", b"12345", host=host, content_type="application/grpc-web")
        assert one.seen[-1]["headers"]["content-type"] == arrives


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_envoy_takes_all_that_translation_makes_and_its_next_change(
    children: Children,
    outside: ExitStack,
    tmp_path: Path,
    one: Server,
    two: Server,
    version: str,
    transport: list[str],
) -> None:
    binary = envoy_of(version)
    pair = Authority(tmp_path).server("gateway")
    plain, tls, out, inside, cart = (free_port() for _ in range(5))
    folder = tmp_path / "config"
    folder.mkdir()
    beside = outside.enter_context(processor())
    text = config(
        plain=plain, tls=tls, sidecar=inside, one=one.server_port, two=two.server_port, beside=beside.port,
        certificate=(pair.cert.read_text(), pair.key.read_text()),
    )  # fmt: skip
    (folder / "all.yaml").write_text(text)
    program = start_serve(children, "--files", str(folder), "--route-code")
    assert program.client.get("/api/v1/problems")["items"] == []

    edge = start_envoy(children, "gateway", "edge", *transport, xds=program.xds, binary=binary)
    check_gateway(plain, one, two)
    for host in (MORE_HOST, f"x.{MORE_HOST}"):
        check_more(plain, one, two, host)
    assert over_tls(tls) == 200
    ports = ["--port", str(cart), "--ingress-port", str(inside), "--egress-port", str(out)]
    sidecar = start_envoy(children, "sidecar", "cart", *ports, *transport, xds=program.xds, binary=binary)
    children.wait_until(lambda: who(out, "/", "one") == "one", what="the way out")
    assert who(out, "/out", "one") == "two"
    assert ask(inside, "cart").status == 503

    (folder / "all.yaml").write_text(text.replace("x-add, value: a}", "x-add, value: next}"))
    children.wait_until(lambda: get(plain, "/headers", HOST)[1]["x-add"] == "next", what="the next change")
    children.wait_until(lambda: {one["status"] for one in states(program)} == {"SYNCED"}, what="all to be acknowledged")
    lacking = {path for state in states(program) for paths in state["leftOut"].values() for path in paths}
    assert lacking == set()
    assert {proxy["version"] for proxy in program.client.get("/api/v1/proxies")["items"]} == {version}
    assert (refused(edge), refused(sidecar)) == ({}, {})
    assert "fairlead_xds_nacks_total{" not in program.client.request("GET", "/metrics").body.decode()


def listener(port: int, **of_manager: Any) -> Resource:
    """A listener that answers by itself."""
    router = {"@type": PREFIX + NAMES["Router"]}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": PREFIX + NAMES["HttpConnectionManager"],
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": router}],
        **of_manager,
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    content = {"name": f"in-{port}", "address": address, "filter_chains": [chain]}
    return resource(TYPE_LISTENER, from_dict(Listener, content))


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_t8_an_older_envoy_is_not_sent_what_it_does_not_know_and_that_is_told(
    children: Children, version: str, transport: list[str]
) -> None:
    mesh, known, new = TinyMesh(), free_port(), free_port()
    # Since Envoy 1.40: xds/schema/lacks/1.39.json.
    mesh.put(listener(known), listener(new, record_route_resolution_stats=True))
    async with serving(mesh) as server:
        envoy = await asyncio.to_thread(
            start_envoy, children, "gateway", "edge", *transport, xds=server.port, binary=envoy_of(version)
        )
        await until(lambda: all(state.status == "SYNCED" for state in mesh.hub.proxies()[0].types))
        left_out = {state.type_url: state.left_out for state in mesh.hub.proxies()[0].types}[TYPE_LISTENER]
        serves = [port for port in (known, new) if await asyncio.to_thread(is_open, port)]
        assert await asyncio.to_thread(refused, envoy) == {}
        assert mesh.hub.proxies()[0].version == version
    if version == "1.40.0":
        assert (serves, left_out) == ([known, new], {})
    else:
        field = "filter_chains[0].filters[0].typed_config.record_route_resolution_stats"
        assert (serves, left_out) == ([known], {f"in-{new}": (field,)})
