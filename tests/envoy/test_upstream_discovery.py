"""How names of backends are looked up, new endpoints are warmed, and endpoints are asked for their load."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest

from mesh.model import AUDIENCES, Connected
from mesh.tables import Change, Engine
from tests.support.dns_server import name_server
from tests.support.model import declared, objects
from tests.support.routing import EDGE, Server, backend_server, document, gateway, get, route, wait_until
from tests.support.servers import GrpcServer
from tests.support.static_bootstrap import static_bootstrap
from tests.support.static_envoy import free_port, running
from tests.support.upstreams import upstreams
from xds.translate.offline import translated
from xds.translate.tables import TABLES

pytestmark = pytest.mark.envoy


@pytest.mark.shows("TrafficPolicy.dns", "lookupFamily", "refreshRate", "respectTtl")
def test_names_are_looked_up_as_and_as_often_as_told(tmp_path: Path, backend: Server) -> None:
    lookups: dict[str, dict[str, Any]] = {
        "four": {"lookupFamily": "IPv4Only"},
        "six": {"lookupFamily": "IPv6Only"},
        "fresh": {"lookupFamily": "IPv4Only", "refreshRate": "100ms", "respectTtl": False},
        "kept": {"lookupFamily": "IPv4Only", "refreshRate": "100ms", "respectTtl": True},
    }
    port, asked = free_port(), list[tuple[str, int]]()
    text = gateway(port)
    for name, dns in lookups.items():
        endpoint = {"fqdn": {"hostname": f"{name}.test", "port": backend.server_port}}
        text += document("Backend", name, {"endpoints": [endpoint]})
        ref = f"{{group: fairlead.dev, kind: Backend, name: {name}}}"
        text += route(f"\n  - backendRefs: [{ref}]", hosts=f"[{name}.example.com]", name=name)
        targets = [{"group": "fairlead.dev", "kind": "Backend", "name": name}]
        text += document("TrafficPolicy", name, {"targetRefs": targets, "dns": dns})
    engine = Engine(TABLES)
    changes = [declared(each) for each in objects(text.rstrip().removesuffix("---"))]
    engine.commit([*changes, Change(AUDIENCES, EDGE, Connected())])
    bootstrap = static_bootstrap(translated(engine, EDGE), admin_port=0)
    with name_server({f"{name}.test": "127.0.0.1" for name in lookups}, asked) as (_, config):
        bootstrap |= json.loads(config)
        with running(bootstrap, tmp_path):
            found = {name: get(port, "/", f"{name}.example.com")[0] for name in lookups}
            assert found == {"four": 200, "six": 503, "fresh": 200, "kept": 200}
            wait_until(lambda: asked.count(("fresh.test", 1)) >= 10)
    kinds = {name: {kind for at, kind in asked if at == f"{name}.test"} for name in ("four", "six")}
    assert kinds == {"four": {1}, "six": {28}}
    assert asked.count(("kept.test", 1)) <= 2


@pytest.mark.slow
@pytest.mark.shows("TrafficPolicy.loadBalancer.slowStart", "window", "aggression", "minWeightPercent")
def test_an_endpoint_that_becomes_healthy_gets_its_share_bit_by_bit(tmp_path: Path) -> None:
    check = {"http": {"path": "/healthz"}, "interval": "100ms", "unhealthyThreshold": 20, "healthyThreshold": 1}
    window = 8.0

    def warmed(**slow: Any) -> dict[str, Any]:
        start = {"slowStart": {"window": f"{window:.0f}s", "minWeightPercent": 1, **slow}} if slow else {}
        return {"healthChecks": [check], "loadBalancer": {"type": "RoundRobin", "panicThreshold": 0, **start}}

    with backend_server("old") as old, backend_server("new") as new:
        new.failing = True
        ports = [old.server_port, new.server_port]
        wanted = {
            "plain": (ports, warmed()),
            "straight": (ports, warmed(aggression=1.0)),
            "steep": (ports, warmed(aggression=20.0)),
            "begun": (ports, warmed(minWeightPercent=100)),
        }
        with upstreams(tmp_path, wanted) as shop:
            wait_until(lambda: shop.status("plain") == 200)
            began = time.monotonic()
            wait_until(lambda: time.monotonic() > began + window)  # the old one is warm by then
            new.failing = False
            wait_until(lambda: all(shop.stat(name, "membership_healthy") == 2 for name in wanted))
            wait_until(lambda: shop.who("plain") == "new")
            counts: Counter[str] = Counter()
            began, rounds = time.monotonic(), 0
            while rounds < 100 and time.monotonic() < began + window / 4:
                rounds += 1
                counts.update(name for name in wanted if shop.who(name) == "new")
    assert rounds >= 10
    assert counts["straight"] < 0.7 * min(counts[name] for name in ("plain", "steep", "begun"))


class Reporting(GrpcServer):
    """Endpoints that are asked for their load: `asked` are the requests."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        super().__init__()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """ORCA's stream; nothing is ever reported."""
        if not details.method.endswith("OpenRcaService/StreamCoreMetrics"):
            return None

        def stream(request: bytes, _: object) -> Any:
            self.asked.append(request)
            return iter(())

        return grpc.unary_stream_rpc_method_handler(stream)


@pytest.mark.shows("TrafficPolicy.loadBalancer.orca", "outOfBand", "reportingPeriod")
def test_endpoints_are_asked_for_their_load_beside_the_requests(tmp_path: Path) -> None:
    with Reporting() as server, Reporting() as unasked:
        orca = {"outOfBand": True, "reportingPeriod": "7s"}
        balancer: dict[str, Any] = {"type": "ClientSideWeightedRoundRobin"}
        wanted = {
            "asked": ([server.port], {"loadBalancer": {**balancer, "orca": orca}}),
            "unasked": ([unasked.port], {"loadBalancer": balancer}),
        }
        with upstreams(tmp_path, wanted, protocol="GRPC"):
            wait_until(lambda: bool(server.asked))
            assert unasked.asked == []
    assert b"\x08\x07" in server.asked[0]  # a duration of seven seconds


@pytest.mark.shows("TrafficPolicy.healthChecks.grpc", "authority")
def test_a_grpc_check_names_its_authority(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        check = {"grpc": {"authority": "health.example.com"}, "interval": "100ms", "timeout": "10s"}
        wanted = {"shop": ([listening.getsockname()[1]], {"healthChecks": [check]})}
        listening.settimeout(10)
        heard: list[str] = []

        def hear() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                state = h2.connection.H2Connection(
                    h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
                )
                state.initiate_connection()
                connection.sendall(state.data_to_send())
                while data := connection.recv(65536):
                    for event in state.receive_data(data):
                        if isinstance(event, h2.events.RequestReceived):
                            heard.append(dict(event.headers)[":authority"])
                            state.send_headers(event.stream_id, [(":status", "200"), ("grpc-status", "12")], True)
                    connection.sendall(state.data_to_send())

        thread = threading.Thread(target=hear)
        thread.start()
        with upstreams(tmp_path, wanted, protocol="GRPC"):
            wait_until(lambda: bool(heard))
        thread.join(10)
    assert set(heard) == {"health.example.com"}
