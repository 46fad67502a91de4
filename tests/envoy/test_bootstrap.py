"""What our bootstraps promise of a running Envoy: large regular expressions, the runtime, load reports."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess

import pytest

from fairlead.addresses import Address
from fairlead.bootstraps.bootstrap import ProxyIdentity, Readiness, envoy_bootstrap
from fairlead.client import Client
from fairlead.demo.traffic import Visitor
from fairlead.envoy_binary import envoy_command, find_envoy
from fairlead.processes import Children, free_port
from mesh.validations.regexes import MAX_PROGRAM_SIZE, fault
from tests.support.programs import (
    FAIRLEAD,
    RunningEnvoy,
    Serving,
    answers,
    ask,
    start_backend,
    start_envoy,
    start_serve,
)

pytestmark = pytest.mark.envoy

HOST = "shop.example.com"
# One instruction a letter: nearly as many as the validator lets pass, and ten times Envoy's own default.
LARGE = f"/[a-z]{{{MAX_PROGRAM_SIZE - 10}}}"


def put(serving: Serving, plural: str, wire: dict[str, object]) -> None:
    name = wire["metadata"]["name"]  # type: ignore[index]
    serving.client.request("PUT", f"/api/v1/namespaces/default/{plural}/{name}", body=wire)


def serve_shop(children: Children, *, path: dict[str, str]) -> tuple[Serving, int]:
    port, backend = free_port(), start_backend(children, "shop")
    serving = start_serve(children)
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    put(
        serving,
        "gateways",
        {"metadata": {"name": "edge"}, "spec": {"gatewayClassName": "fairlead", "listeners": listeners}},
    )
    endpoints = [{"address": "127.0.0.1", "ports": {"http": backend}}]
    put(
        serving,
        "services",
        {"metadata": {"name": "shop"}, "spec": {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}},
    )
    rules = [{"matches": [{"path": path}], "backendRefs": [{"name": "shop", "port": 80}]}]
    put(
        serving,
        "httproutes",
        {"metadata": {"name": "shop"}, "spec": {"parentRefs": [{"name": "edge"}], "hostnames": [HOST], "rules": rules}},
    )
    return serving, port


def test_a_regular_expression_as_large_as_the_validator_allows_is_served(children: Children) -> None:
    assert fault(LARGE) == ""
    assert fault(LARGE + "[a-z]{20}") != ""
    serving, port = serve_shop(children, path={"type": "RegularExpression", "value": LARGE})
    start_envoy(children, "gateway", "edge", xds=serving.xds)
    children.wait_until(lambda: ask(port, HOST, "/" + "a" * (MAX_PROGRAM_SIZE - 10)).status == 200, what="the route")
    assert ask(port, HOST, "/" + "a" * 100).status == 404


def test_the_runtime_can_be_changed_through_the_admin_listener(children: Children) -> None:
    serving = start_serve(children)
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds, ready=False)
    Client(f"http://127.0.0.1:{envoy.admin}").request("POST", "/runtime_modify?some.flag=7")
    entries = json.loads(envoy.get("/runtime"))["entries"]
    assert entries["some.flag"]["final_value"] == "7"
    assert entries["re2.max_program_size.error_level"]["final_value"] == str(MAX_PROGRAM_SIZE)


@pytest.mark.slow
def test_t6_envoy_reports_its_load_and_the_command_shows_it(children: Children) -> None:
    serving, port = serve_shop(children, path={"type": "PathPrefix", "value": "/"})
    start_envoy(children, "gateway", "edge", "--instance", "one", xds=serving.xds)
    children.wait_until(lambda: ask(port, HOST).status == 200, what="the route")

    def reported() -> dict[str, int]:
        items = serving.client.get("/api/v1/load-reports")["items"]
        return {item["cluster"]: item["succeeded"] for item in items if item["node"] == "gateway~default~edge~one"}

    def asked_and_reported() -> bool:  # a report covers its own interval only
        ask(port, HOST)
        return reported().get("default/shop:80", 0) > 0

    children.wait_until(asked_and_reported, what="a load report", timeout=30)
    shown = subprocess.run(
        [*FAIRLEAD, "loads", "--server", f"http://127.0.0.1:{serving.api}"], capture_output=True, text=True, check=True
    )
    assert "default/shop:80" in shown.stdout
    assert "gateway~default~edge~one" in shown.stdout
    loads = serving.client.get("/api/v1/load-reports")["items"]
    assert "fairlead" in {load["cluster"] for load in loads}, "the control plane's own cluster, whose stream goes on"
    assert all(load["issued"] or load["inProgress"] or load["succeeded"] or load["failed"] for load in loads)


def test_the_port_for_probes_says_whether_the_proxy_takes_traffic_and_nothing_else(children: Children) -> None:
    serving, port, admin = start_serve(children), free_port(), free_port()
    document = envoy_bootstrap(
        ProxyIdentity(kind="gateway", name="edge"),
        xds=Address("127.0.0.1", serving.xds),
        admin_port=admin,
        readiness=Readiness(port=port),
    )
    children.start("envoy", envoy_command(find_envoy(), document, arguments=["--log-level", "warning"]))
    asked = Client(f"http://127.0.0.1:{port}", timeout=10)
    children.wait_until(lambda: answers(asked, "/ready"), what="Envoy to be ready")
    assert ask(port, "any", "/ready").status == 200
    for path in ("/", "/stats", "/ready/", "/healthcheck/fail", "/config_dump"):
        assert ask(port, "any", path).status == 404, path
    Client(f"http://127.0.0.1:{admin}").request("POST", "/healthcheck/fail")
    assert ask(port, "any", "/ready").status == 503


@pytest.mark.parametrize(
    ("limits", "said"), [({"max_connections": 1}, ""), ({"max_heap": 2**20}, "stop_accepting_requests")]
)
def test_a_proxy_without_room_turns_clients_away_and_tells_probes_that_it_is_ready(
    children: Children, request: pytest.FixtureRequest, limits: dict[str, int], said: str
) -> None:
    serving, port = serve_shop(children, path={"type": "PathPrefix", "value": "/"})
    admin, probes = free_port(), free_port()
    document = envoy_bootstrap(
        ProxyIdentity(kind="gateway", name="edge"),
        xds=Address("127.0.0.1", serving.xds),
        admin_port=admin,
        readiness=Readiness(port=probes),
        **limits,  # type: ignore[arg-type]
    )
    child = children.start("envoy", envoy_command(find_envoy(), document, arguments=["--log-level", "error"]))
    envoy, asked = RunningEnvoy(child, admin), Client(f"http://127.0.0.1:{probes}", timeout=10)
    children.wait_until(lambda: answers(asked, "/ready"), what="Envoy to be ready")
    if said:
        active = f"overload.envoy.overload_actions.{said}.active"
        children.wait_until(lambda: envoy.stat(active) == 1 and connects(port), what="overload")
    else:
        kept = Visitor(port)
        request.addfinalizer(kept.close)
        children.wait_until(lambda: is_served(kept), what="the only connection")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(port, HOST)
    assert ask(probes, "any", "/ready").status == 200


def is_served(visitor: Visitor) -> bool:
    """Whether a request on this connection is answered."""
    try:
        return visitor.ask(HOST, "/").status == 200
    except (OSError, http.client.HTTPException):
        return False


def connects(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except OSError:
        return False
    return True
