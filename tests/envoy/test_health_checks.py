"""What active health checks of a TrafficPolicy ask, when, and what becomes of their answers."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from fairlead.processes import Children
from tests.envoy.test_https import put
from tests.support.edge import RawBackend
from tests.support.programs import start_envoy, start_serve
from tests.support.routing import Server, backend_server, document, get, service, serving, wait_until
from tests.support.servers import GrpcServer
from tests.support.static_envoy import free_port
from tests.support.upstreams import Upstreams, upstreams

pytestmark = pytest.mark.envoy

OFTEN = {
    "interval": "50ms",
    "timeout": "5s",
    "unhealthyThreshold": 1,
    "healthyThreshold": 1,
    "intervalJitterPercent": 0,
}
NO_PANIC = {"panicThreshold": 0}


def checked(**check: Any) -> dict[str, Any]:
    return {"healthChecks": [{**OFTEN, **check}], "loadBalancer": NO_PANIC}


def healthy(shop: Upstreams, name: str) -> int:
    return shop.stat(name, "membership_healthy")


@pytest.mark.shows("TrafficPolicy.healthChecks.http", "path", "host", "method", "headers", "expectedStatuses.start")
@pytest.mark.shows("TrafficPolicy.healthChecks.http.expectedStatuses", "end")
@pytest.mark.shows("TrafficPolicy.healthChecks.http", "receive")
@pytest.mark.shows("TrafficPolicy.healthChecks", "altPort")
def test_an_http_check_asks_as_it_is_told_and_takes_the_statuses_it_is_told(tmp_path: Path) -> None:
    own = {"host": "health.example.com", "method": "POST", "headers": {"x-check": "1"}}
    with backend_server("asked") as asked, backend_server("beside") as beside:
        ports = [asked.server_port]
        wanted = {
            "plain": (ports, checked(http={"path": "/fail/418/always"})),
            "own": (
                ports,
                checked(
                    http={**own, "path": "/fail/418/own/always", "expectedStatuses": [{"start": 410, "end": 418}]},
                ),
            ),
            "below": (
                ports,
                checked(http={"path": "/fail/418/always", "expectedStatuses": [{"start": 410, "end": 417}]}),
            ),
            "beside": (ports, checked(http={"path": "/beside"}, altPort=beside.server_port)),
            "said": (ports, checked(http={"path": "/said", "receive": ['"path": "/said"', '"who": "asked"']})),
            "unsaid": (ports, checked(http={"path": "/said", "receive": ['"who": "beside"']})),
        }
        with upstreams(tmp_path, wanted) as shop:
            wait_until(lambda: healthy(shop, "own") == healthy(shop, "beside") == healthy(shop, "said") == 1)
            wait_until(lambda: shop.stat("unsaid", "health_check.failure") > 2)
            wait_until(lambda: shop.stat("plain", "health_check.failure") > 2)
            wait_until(lambda: shop.stat("below", "health_check.failure") > 2)
            assert [healthy(shop, name) for name in ("plain", "below", "unsaid")] == [0, 0, 0]
            wait_until(lambda: shop.status("plain") == 503)
            wait_until(lambda: shop.status("own") == 200)
    check = next(one for one in asked.seen if one["path"].endswith("/own/always"))
    assert (check["headers"]["host"], check["headers"]["x-check"]) == ("health.example.com", "1")
    assert check["method"] == "POST"
    assert {one["path"] for one in beside.seen} == {"/beside"}
    assert "/beside" not in {one["path"] for one in asked.seen}


@pytest.mark.shows("TrafficPolicy.healthChecks", "unhealthyThreshold", "healthyThreshold", "timeout")
def test_an_endpoint_goes_and_comes_after_so_many_answers_and_a_slow_one_is_none(tmp_path: Path) -> None:
    with backend_server() as server:
        ports = [server.server_port]
        http = {"path": "/healthz"}
        wanted = {
            "quick": (ports, checked(http=http)),
            "firm": (ports, checked(http=http, unhealthyThreshold=1000)),
            "wary": (ports, checked(http=http, healthyThreshold=1000)),
            "hasty": (ports, checked(http=http, timeout="100ms")),
        }
        with upstreams(tmp_path, wanted) as shop:
            wait_until(lambda: all(healthy(shop, name) == 1 for name in wanted))
            server.delay = 0.5
            wait_until(lambda: healthy(shop, "hasty") == 0)
            assert [healthy(shop, name) for name in ("quick", "firm", "wary")] == [1, 1, 1]
            server.delay = 0.0
            wait_until(lambda: healthy(shop, "hasty") == 1)
            server.failing = True
            wait_until(lambda: healthy(shop, "quick") == healthy(shop, "wary") == 0)
            server.failing = False
            wait_until(lambda: healthy(shop, "quick") == 1)
            assert healthy(shop, "wary") == 0


@pytest.mark.shows("TrafficPolicy.healthChecks", "interval", "unhealthyInterval", "noTrafficInterval")
def test_checks_come_as_often_as_the_state_of_the_endpoint_wants_them(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        names = ("often", "seldom", "idle", "sick")
        servers = {name: stack.enter_context(backend_server(name)) for name in names}
        http = {"path": "/healthz"}
        checks = {
            "often": checked(http=http),
            "seldom": checked(http=http, interval="1h"),
            "idle": checked(http=http, noTrafficInterval="1h"),
            "sick": checked(http=http, unhealthyInterval="1h"),
        }
        wanted = {name: ([servers[name].server_port], checks[name]) for name in names}
        shop = stack.enter_context(upstreams(tmp_path, wanted))
        assert {shop.status(name) for name in ("often", "seldom", "sick")} == {200}
        servers["sick"].failing = True
        wait_until(lambda: healthy(shop, "sick") == 0)

        def count(name: str) -> int:
            return sum(one["path"] == "/healthz" for one in servers[name].seen)

        before, sick = count("often"), count("sick")
        wait_until(lambda: count("often") >= before + 20)
        assert (count("seldom"), count("idle")) == (1, 1)
        assert count("sick") <= sick + 2


@pytest.mark.shows("TrafficPolicy.healthChecks", "intervalJitterPercent")
def test_intervals_vary_by_so_much(tmp_path: Path) -> None:
    with backend_server("plain") as plain, backend_server("varying") as varying:
        http = {"path": "/healthz"}
        wanted = {
            "plain": ([plain.server_port], checked(http=http, interval="100ms")),
            "varying": ([varying.server_port], checked(http=http, interval="100ms", intervalJitterPercent=100)),
        }
        with upstreams(tmp_path, wanted):
            wait_until(lambda: len(plain.seen) >= 50)
            # On average an interval is half as long again.
            assert len(plain.seen) / 3 < len(varying.seen) < len(plain.seen) * 0.9


@pytest.mark.shows("TrafficPolicy.healthChecks", "reuseConnection")
def test_a_check_may_have_a_connection_of_its_own(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    with RawBackend(answer) as same, RawBackend(answer) as new:
        wanted = {
            "same": ([same.port], checked(http={"path": "/"})),
            "new": ([new.port], checked(http={"path": "/"}, reuseConnection=False)),
        }
        with upstreams(tmp_path, wanted):
            wait_until(lambda: min(len(same.seen), len(new.seen)) >= 10)
            assert same.connections == 1
            assert new.connections >= 9


@contextlib.contextmanager
def parrot(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers all that it is sent with the same bytes."""
    heard: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while data := self.request.recv(100):
                    heard.append(data)
                    self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], heard
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.shows("TrafficPolicy.healthChecks.tcp", "send", "receive")
def test_a_tcp_check_sends_what_it_is_told_and_wants_its_answer(tmp_path: Path) -> None:
    tcp = {"tcp": {"send": "PING", "receive": ["PONG"]}, "reuseConnection": False, "timeout": "200ms"}
    with parrot(b"+PONG\r\n") as (good, heard), parrot(b"-ERR\r\n") as (bad, _):
        wanted = {"good": ([good], checked(**tcp)), "bad": ([bad], checked(**tcp))}
        with upstreams(tmp_path, wanted) as shop:
            wait_until(lambda: healthy(shop, "good") == 1)
            wait_until(lambda: shop.stat("bad", "health_check.failure") >= 2)
            assert healthy(shop, "bad") == 0
    assert set(heard) == {b"PING"}


class Health(GrpcServer):
    """gRPC's health service: everything is well; `asked` are authority and service of who asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        super().__init__()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Answer `SERVING` to `Check`."""
        if details.method != "/grpc.health.v1.Health/Check":
            return None

        def check(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.asked.append((dict(context.invocation_metadata()).get("x-none", ""), request))
            return b"\x08\x01"

        return grpc.unary_unary_rpc_method_handler(check)


@pytest.mark.shows("TrafficPolicy.healthChecks.grpc", "service")
def test_a_grpc_check_asks_for_its_service(tmp_path: Path) -> None:
    with Health() as server:
        wanted = {"shop": ([server.port], checked(grpc={"service": "shop.v1.Cart"}))}
        with upstreams(tmp_path, wanted, protocol="GRPC") as shop:
            wait_until(lambda: healthy(shop, "shop") == 1)
    assert {request for _, request in server.asked} == {b"\x0a\x0cshop.v1.Cart"}


@pytest.mark.shows("TrafficPolicy.connection", "closeOnUnhealthy")
def test_tcp_connections_end_when_their_endpoint_becomes_unhealthy_if_told_so(tmp_path: Path) -> None:
    ports = {"plain": free_port(), "closing": free_port()}
    listeners = [{"name": name, "port": port, "protocol": "TCP"} for name, port in ports.items()]
    with backend_server() as health, parrot(b"hello") as (endpoint, _):
        text = document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
        for name in ports:
            text += service(name, endpoint, protocol="TCP")
            rules = [{"backendRefs": [{"name": name, "port": 80}]}]
            spec = {"parentRefs": [{"name": "edge", "sectionName": name}], "rules": rules}
            text += document("TCPRoute", name, spec)
            policy = checked(http={"path": "/healthz"}, altPort=health.server_port)
            policy["connection"] = {"closeOnUnhealthy": name == "closing"}
            text += document("TrafficPolicy", name, {"targetRefs": [{"kind": "Service", "name": name}], **policy})
        with serving(text, tmp_path), contextlib.ExitStack() as stack:
            talks = {}
            for name, port in ports.items():
                talks[name] = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                talks[name].sendall(b"hi")
                assert talks[name].recv(100) == b"hello"
            health.failing = True
            assert talks["closing"].recv(100) == b""
            talks["plain"].sendall(b"hi")
            assert talks["plain"].recv(100) == b"hello"


def test_an_endpoint_that_discovery_removes_goes_at_once_though_its_checks_pass(children: Children) -> None:
    serving, port = start_serve(children), free_port()
    with backend_server("kept") as kept, backend_server("gone") as gone:

        def declare(*servers: Server) -> None:
            endpoints = [{"address": "127.0.0.1", "ports": {"http": server.server_port}} for server in servers]
            ports = [{"name": "http", "port": 80, "protocol": "HTTP"}]
            put(serving, "Service", "services", "shop", spec={"ports": ports, "endpoints": endpoints})

        declare(kept, gone)
        check = {"http": {"path": "/healthz"}, **OFTEN}
        spec = {"targetRefs": [{"kind": "Service", "name": "shop"}], "healthChecks": [check]}
        put(serving, "TrafficPolicy", "trafficpolicies", "shop", spec=spec)
        listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
        addresses = [{"value": "127.0.0.1"}]
        gateway = {"gatewayClassName": "fairlead", "listeners": listeners, "addresses": addresses}
        put(serving, "Gateway", "gateways", "edge", spec=gateway)
        rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
        put(serving, "HTTPRoute", "httproutes", "shop", spec={"parentRefs": [{"name": "edge"}], "rules": rules})
        envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
        cluster = "cluster.default/shop_80"
        children.wait_until(lambda: envoy.stat(f"{cluster}.membership_healthy") == 2, what="both endpoints")
        declare(kept)
        children.wait_until(lambda: envoy.stat(f"{cluster}.membership_total") == 1, what="one of them to go")
        # Its checks end with it; until then they passed, so that nothing but discovery's word took it out.
        assert envoy.stat(f"{cluster}.health_check.failure") == 0
        assert {get(port, "/")[2]["who"] for _ in range(20)} == {"kept"}
