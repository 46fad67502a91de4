"""A listener with a thousand routes: nothing that is wrong elsewhere, and no change of one, is felt by the others."""

from __future__ import annotations

import http.client
import json
import random
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children, free_port
from mesh.kinds import KINDS
from tests.support.programs import RunningEnvoy, Serving, start_envoy, start_serve
from tests.support.routing import Server
from tests.support.traffic import Traffic

pytestmark = pytest.mark.envoy

COUNT = 1000
LONG = "x" * 10_000
BACKEND = {"name": "echo", "port": 80}
ECHO = [{"backendRefs": [BACKEND]}]


def made(kind: str, name: str, spec: Any, **metadata: Any) -> dict[str, Any]:
    """An object as it is written."""
    api_version = KINDS[kind].api_version if kind in KINDS else "example.com/v1"
    metadata = {"name": name, "namespace": "default", **metadata}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def route(name: str, *hosts: str, rules: Any = ECHO, **spec: Any) -> dict[str, Any]:
    """An HTTPRoute of the gateway."""
    return made("HTTPRoute", name, {"parentRefs": [{"name": "edge"}], "hostnames": list(hosts), "rules": rules, **spec})


def host(number: int) -> str:
    """The hostname of a good route."""
    return f"h{number}.example.com"


def good(port: int, backend: Server) -> list[dict[str, Any]]:
    """A gateway, a service, and a thousand routes to it."""
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    endpoints = [{"address": "127.0.0.1", "ports": {"http": backend.server_port}}]
    return [
        made("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners}),
        made("Service", "echo", {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}),
        *(route(f"r{number}", host(number)) for number in range(COUNT)),
    ]


def filtered(*filters: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """One rule with filters."""
    return [{"filters": list(filters), "backendRefs": [BACKEND], **more}]


def matched(**match: Any) -> list[dict[str, Any]]:
    """One rule with a match."""
    return [{"matches": [match], "backendRefs": [BACKEND]}]


def headers(**modifier: Any) -> list[dict[str, Any]]:
    """One rule that changes headers."""
    return filtered({"type": "RequestHeaderModifier", "requestHeaderModifier": modifier})


def judged(**auth: Any) -> list[dict[str, Any]]:
    """One rule with an authorizer."""
    return filtered({"type": "ExternalAuth", "externalAuth": {"protocol": "HTTP", "http": {}, **auth}})


RULES: dict[str, Any] = {
    "none": [],
    "text": "rules",
    "null": None,
    "many": ECHO * 17,
    "matches": [{"matches": [{"path": {"value": f"/{number}"}} for number in range(65)], "backendRefs": [BACKEND]}],
    "regex-open": matched(path={"type": "RegularExpression", "value": "/(("}),
    "regex-look": matched(path={"type": "RegularExpression", "value": "/(?=a)a"}),
    "regex-huge": matched(path={"type": "RegularExpression", "value": "/((a{1,100}){1,100}){1,100}"}),
    "regex-header": matched(headers=[{"name": "x-a", "type": "RegularExpression", "value": "["}]),
    "path-relative": matched(path={"value": "x"}),
    "path-dots": matched(path={"value": "/a/../b"}),
    "path-long": matched(path={"value": f"/{LONG}"}),
    "path-control": matched(path={"type": "RegularExpression", "value": "/a\r\nb"}),
    "method": matched(method="BREW"),
    "header-name": matched(headers=[{"name": "a b", "value": "x"}]),
    "header-twice": matched(headers=[{"name": "x-a", "value": "1"}, {"name": "X-A", "value": "2"}]),
    "query-long": matched(queryParams=[{"name": "q", "value": LONG}]),
    "host-header": headers(set=[{"name": "Host", "value": "evil"}]),
    "pseudo-header": headers(set=[{"name": ":path", "value": "/"}]),
    "header-crlf": headers(add=[{"name": "x-a", "value": "a\r\nx-b: c"}]),
    "header-long": headers(add=[{"name": "x-a", "value": LONG}]),
    "header-command": headers(set=[{"name": "x-a", "value": "%NOT_A_COMMAND(%"}]),
    "filter-type": filtered({"type": "Magic"}),
    "filter-empty": filtered({"type": "URLRewrite"}),
    "filter-foreign": filtered(
        {"type": "ExtensionRef", "extensionRef": {"group": "x.org", "kind": "Guard", "name": "strict"}}
    ),
    "redirect-and-rewrite": filtered(
        {"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}},
        {"type": "URLRewrite", "urlRewrite": {"hostname": "b.example.com"}},
    ),
    "redirect-status": filtered({"type": "RequestRedirect", "requestRedirect": {"statusCode": 200}}),
    "rewrite-crlf": filtered({"type": "URLRewrite", "urlRewrite": {"hostname": "a\r\nb"}}),
    "mirror-nowhere": filtered({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "no", "port": 80}}}),
    "mirror-share": filtered({"type": "RequestMirror", "requestMirror": {"backendRef": BACKEND, "percent": 101}}),
    "cors-star": filtered({"type": "CORS", "cors": {"allowOrigins": ["*", "https://a.example.com"]}}),
    "judge-nobody": judged(backendRef={"name": "nobody", "port": 80}),
    "judge-foreign": judged(backendRef={"name": "echo", "namespace": "other", "port": 80}),
    "judge-path": judged(backendRef=BACKEND, http={"path": "/../x"}),
    "judge-both": judged(backendRef=BACKEND, grpc={}),
    "timeout-absurd": [{"backendRefs": [BACKEND], "timeouts": {"request": "99999h99999h99999h99999h"}}],
    "timeout-negative": [{"backendRefs": [BACKEND], "timeouts": {"request": "-1s"}}],
    "timeout-zero": [{"backendRefs": [BACKEND], "timeouts": {"request": "0s", "backendRequest": "0s"}}],
    "timeouts-crossed": [{"backendRefs": [BACKEND], "timeouts": {"request": "1s", "backendRequest": "2s"}}],
    "retry-zero": [{"backendRefs": [BACKEND], "retry": {"attempts": 0, "backoff": "0s", "codes": []}}],
    "retry-codes": [{"backendRefs": [BACKEND], "retry": {"codes": [42]}}],
    "session": [{"backendRefs": [BACKEND], "sessionPersistence": {"sessionName": "a;b\r\n"}}],
    "backend-missing": [{"backendRefs": [{"name": "nobody", "port": 80}]}],
    "backend-port": [{"backendRefs": [{"name": "echo", "port": 81}]}],
    "backend-no-port": [{"backendRefs": [{"name": "echo"}]}],
    "backend-kind": [{"backendRefs": [{"kind": "Pod", "name": "x", "port": 1}]}],
    "backend-foreign": [{"backendRefs": [{"name": "echo", "namespace": "other", "port": 80}]}],
    "backend-weight": [{"backendRefs": [{**BACKEND, "weight": -1}]}],
    "backend-weights": [{"backendRefs": [{**BACKEND, "weight": 2**40}]}],
    "backend-nothing": [{"backendRefs": []}],
    "unknown-field": [{"backendRefs": [BACKEND], "magic": True}],
}


def bad(port: int) -> list[dict[str, Any]]:
    """Everything that we can think of and that is wrong, each in its own way."""
    http = {"protocol": "HTTP", "port": port}
    certificate = {"certificateRefs": [{"name": "nobody"}]}
    target = [{"kind": "Service", "name": "echo"}]
    return [
        *(route(f"bad-{name}", f"{name}.bad.example.com", rules=rules) for name, rules in RULES.items()),
        *(route(f"host-{number}", text) for number, text in enumerate(("*", "10.0.0.1", "a b", LONG, "é.com", ""))),
        route("bad-parent", "a.bad.example.com", parentRefs=[{"name": "nobody"}]),
        route("bad-section", "a.bad.example.com", parentRefs=[{"name": "edge", "sectionName": "nobody"}]),
        made("HTTPRoute", "Bad_Name", {"rules": ECHO}),
        made("HTTPRoute", LONG, {"rules": ECHO}),
        made("Magic", "magic", {}),
        {"kind": "HTTPRoute"},
        made(
            "GRPCRoute",
            "grpc",
            {"parentRefs": [{"name": "edge"}], "hostnames": ["grpc.bad.example.com"], "rules": [{}]},
        ),
        made("GRPCRoute", "empty", {"parentRefs": [{"name": "edge"}], "rules": [{"matches": [{"method": {}}]}]}),
        made("TCPRoute", "tcp", {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [BACKEND]}]}),
        made("UDPRoute", "udp", {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [BACKEND]}]}),
        made("TLSRoute", "tls", {"parentRefs": [{"name": "edge"}], "hostnames": ["*"], "rules": []}),
        made("ListenerSet", "same", {"parentRef": {"name": "edge"}, "listeners": [{"name": "same", **http}]}),
        made("ListenerSet", "lost", {"parentRef": {"name": "nobody"}, "listeners": [{"name": "x", **http}]}),
        made("Gateway", "no-listeners", {"gatewayClassName": "fairlead", "listeners": []}),
        made("Gateway", "twice", {"gatewayClassName": "fairlead", "listeners": [{"name": "a", **http}] * 2}),
        made(
            "Gateway",
            "https",
            {
                "gatewayClassName": "fairlead",
                "listeners": [{"name": "a", "port": 1, "protocol": "HTTPS", "tls": certificate}],
            },
        ),
        made("BackendTLSPolicy", "nobody", {"targetRefs": target, "validation": {"hostname": "a.example.com"}}),
        made("TrafficPolicy", "negative", {"targetRefs": target, "timeouts": {"request": "-1s"}}),
        made("RoutePolicy", "nowhere", {"targetRefs": [{"group": "x.org", "kind": "Magic", "name": "x"}]}),
        made("ServiceSubset", "lost", {"service": "nobody", "labels": {}}),
        made("Service", "no-ports", {"ports": [], "endpoints": [{"address": "nonsense address", "ports": {}}]}),
        made("Service", "far", {"ports": [{"name": "a", "port": 99999}]}),
    ]


class World:
    """A server with a folder of files, and a gateway's proxy."""

    def __init__(self, children: Children, backend: Server) -> None:
        self.children, self.port = children, free_port()
        self.folder: Path = children.folder / "config"
        self.folder.mkdir()
        self.write("good", *good(self.port, backend))
        self.serving: Serving = start_serve(children, "--files", str(self.folder))
        self.envoy: RunningEnvoy = start_envoy(children, "gateway", "edge", xds=self.serving.xds)
        children.wait_until(lambda: self.status(host(COUNT - 1)) == 200, what="the last route", timeout=60)

    def write(self, name: str, *documents: dict[str, Any]) -> None:
        """One file of the folder."""
        new = self.folder / f"{name}.new"
        new.write_text("\n---\n".join(json.dumps(each) for each in documents))
        new.replace(self.folder / f"{name}.yaml")

    def status(self, name: str, path: str = "/") -> int:
        """The status of a request on a connection of its own; 0 where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"host": name})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def all(self) -> set[int]:
        """The statuses of all good routes, asked over one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        found = set()
        for number in range(COUNT):
            connection.request("GET", "/", headers={"host": host(number)})
            response = connection.getresponse()
            response.read()
            found.add(response.status)
        connection.close()
        return found

    def listeners(self) -> list[int]:
        """What Envoy counts of its listeners: changed, drained, and updates of them."""
        names = ("listener_modified", "listener_removed", "listener_in_place_updated", "lds.update_success")
        return [self.envoy.stat(f"listener_manager.{name}") for name in names]


def test_a_thousand_good_routes_are_served_whatever_else_is_declared(children: Children, backend: Server) -> None:
    world = World(children, backend)
    before = world.listeners()
    documents = bad(world.port)
    for number, each in enumerate(documents):
        world.write(f"bad-{number:03}", each)
    world.write("zz-last", route("last", "last.example.com"))
    children.wait_until(lambda: world.status("last.example.com") == 200, what="the last file", timeout=60)
    refused = 0
    for each in documents:
        kind = KINDS.get(each["kind"])
        name = each.get("metadata", {}).get("name", "")
        if kind is not None and name:
            path = f"/api/v1/namespaces/default/{kind.plural}/{name}"
            connection = http.client.HTTPConnection("127.0.0.1", world.serving.api, timeout=20)
            connection.request("PUT", path, body=json.dumps(each), headers={"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            connection.close()
            assert answer.status < 500, name
            refused += answer.status >= 400
    assert refused > 40
    world.write("zz-last", route("last", "still.example.com"))
    children.wait_until(lambda: world.status("still.example.com") == 200, what="the next change", timeout=60)
    assert world.all() == {200}
    assert "fairlead_xds_nacks_total{" not in world.serving.client.request("GET", "/metrics").body.decode()
    assert world.listeners()[:3] == before[:3]


def test_routes_come_change_and_go_among_a_thousand_under_traffic_and_nobody_notices(
    children: Children, backend: Server
) -> None:
    world = World(children, backend)
    before = world.listeners()
    kept = http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)
    kept.connect()
    own_port = kept.sock.getsockname()[1]
    chosen = random.Random(8)

    def one() -> str:
        name = host(chosen.randrange(COUNT))
        status = world.status(name)
        return "" if status == 200 else f"{name}: {status}"

    with Traffic(one, pause=0.002) as traffic:
        for round_number in range(10):
            world.write("more", route("more", "more.example.com"))
            children.wait_until(lambda: world.status("more.example.com") == 200, what="a new route")
            moved = f"m{round_number}.example.com"
            world.write("more", route("more", moved))
            children.wait_until(lambda name=moved: world.status(name) == 200, what="the changed route")
            assert world.status("more.example.com") == 404
            (world.folder / "more.yaml").unlink()
            children.wait_until(lambda name=moved: world.status(name) == 404, what="the route to be gone")
            kept.request("GET", "/", headers={"host": host(round_number)})
            response = kept.getresponse()
            response.read()
            assert (response.status, response.getheader("connection")) == (200, None)
    assert traffic.requests > 50
    assert traffic.failures == []
    assert kept.sock.getsockname()[1] == own_port, "the connection was kept all the time"
    assert world.listeners() == before
    kept.close()
