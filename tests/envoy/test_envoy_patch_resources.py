"""EnvoyPatches on virtual hosts, and on listeners of UDP, HTTP/3 and sidecars: what they do, each alone."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children
from fairlead.processes import free_port as port_of
from mesh.model import AUDIENCES, MESH, Connected, MeshSettings
from mesh.tables import Change, Engine
from tests.envoy.test_envoy_patch import GATEWAY, HOST, SERVICE, add, put, put_shop, told
from tests.envoy.test_http3 import ask_over_tls
from tests.envoy.test_http3 import gateway as https_gateway
from tests.envoy.test_stream_routes import udp_backend
from tests.support.certificates import Authority
from tests.support.edge import policy
from tests.support.http3 import get3
from tests.support.model import declared, objects
from tests.support.programs import Serving, ask, reached, start_backend, start_envoy, start_serve
from tests.support.routing import EDGE, Server, document, get, route, service
from tests.support.secrets import secret
from tests.support.static_bootstrap import static_bootstrap
from tests.support.static_envoy import free_port, running
from xds.translate.offline import translated
from xds.translate.tables import TABLES

pytestmark = pytest.mark.envoy

SERVER_NAME = "/filter_chains/0/filters/0/typed_config/server_name"
NAMED = {"op": "replace", "path": SERVER_NAME, "value": "patched"}


def with_patches(text: str) -> dict[str, Any]:
    engine = Engine(TABLES)
    changes = [declared(each) for each in objects(text.rstrip().removesuffix("---"))]
    allowed = Change(MESH, "", MeshSettings(envoy_patches=True))
    engine.commit([*changes, allowed, Change(AUDIENCES, EDGE, Connected())])
    assert engine.faults == {}
    return static_bootstrap(translated(engine, EDGE), admin_port=0)


def patch(name: str, resource: str, *operations: dict[str, Any]) -> str:
    return document("EnvoyPatch", name, {"targetRefs": [GATEWAY], "resource": resource, "patch": list(operations)})


def put_patch(serving: Serving, name: str, target: dict[str, str], *operations: Any, **more: str) -> None:
    put(serving, "EnvoyPatch", "envoypatches", name, {"targetRefs": [target], "patch": list(operations), **more})


def header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}}


def test_a_listener_for_http3_is_patched_and_that_for_tcp_is_not(tmp_path: Path, backend: Server) -> None:
    port, pair = free_port(), Authority(tmp_path).server("cert")
    text = secret("cert", crt=pair.cert.read_text(), key=pair.key.read_text()) + "\n---\n"
    text += document("Gateway", "edge", https_gateway(port, "a.example.com")) + service("echo", backend.server_port)
    text += route("\n  - backendRefs: [{name: echo, port: 80}]") + policy("h3", "l0", http3={"enabled": True})
    with running(with_patches(text + patch("quic", "HTTP3Listener", NAMED)), tmp_path):
        assert get3(port, "a.example.com", "/").headers["server"] == "patched"
        assert ask_over_tls(port, "a.example.com", "/").headers["server"] == "fairlead"


def test_a_listener_for_udp_is_patched(tmp_path: Path) -> None:
    port, most = free_port(), {"max_rx_datagram_size": 64}
    listeners = [{"name": "dns", "port": port, "protocol": "UDP"}]
    with udp_backend("one") as one:
        text = document("Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": listeners})
        ports = [{"name": "dns", "port": 53, "protocol": "UDP"}]
        endpoints = [{"address": "127.0.0.1", "ports": {"dns": one}}]
        text += document("Service", "dns", {"ports": ports, "endpoints": endpoints})
        rules = [{"backendRefs": [{"name": "dns", "port": 53}]}]
        text += document("UDPRoute", "dns", {"parentRefs": [{"name": "edge"}], "rules": rules})
        wanted = add("/udp_listener_config/downstream_socket_config", most)
        with (
            running(with_patches(text + patch("small", "UDPListener", wanted)), tmp_path),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            client.send(b"x" * 65)
            client.send(b"x" * 64)
            assert client.recv(4096) == b"one"
            client.settimeout(0.2)  # what came first was too large, and its answer does not come behind
            with pytest.raises(TimeoutError):
                client.recv(4096)


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
@pytest.mark.shows("EnvoyPatch", "resource", "resourceName")
def test_a_virtual_host_is_patched_and_a_refused_patch_leaves_others_in_force(
    children: Children, transport: list[str]
) -> None:
    port = port_of()
    serving = start_serve(children, "--envoy-patches")
    put_shop(serving, start_backend(children, "shop"), port)
    envoy = start_envoy(children, "gateway", "edge", *transport, xds=serving.xds)
    children.wait_until(lambda: reached(port, HOST), what="the gateway")
    answers = add("/response_headers_to_add", [header("x-host", "patched")])
    put_patch(serving, "good", GATEWAY, answers, resource="VirtualHost", resourceName=HOST)
    put_patch(serving, "elsewhere", GATEWAY, answers, resource="VirtualHost", resourceName="other.example.com")
    children.wait_until(lambda: get(port, "/", HOST)[1].get("x-host") == "patched", what="the patched host")
    # No field rule forbids it; Envoy's code does.
    unknown = add("/request_headers_to_add", [header("x-a", "%NO_SUCH_COMMAND%")])
    put_patch(serving, "bad", GATEWAY, unknown, resource="VirtualHost")
    children.wait_until(lambda: told(serving, "bad").startswith("Rejected"), what="the refusal", timeout=30)
    assert "NO_SUCH_COMMAND" in told(serving, "bad")
    put_shop(serving, start_backend(children, "shop two"), port)
    children.wait_until(lambda: ask(port, HOST).body["service"] == "shop two", what="the moved endpoint")
    assert get(port, "/", HOST)[1]["x-host"] == "patched"
    assert told(serving, "good") == f"Programmed Applied to virtual host {HOST} of Gateway default/edge."
    assert told(serving, "elsewhere").startswith("NoResources")
    assert envoy.stat("listener_manager.listener_modified") == 0
    more = add("/request_headers_to_add", [header("x-a", "%PROTOCOL%")])
    put_patch(serving, "bad", GATEWAY, more, resource="VirtualHost")
    children.wait_until(lambda: told(serving, "bad").startswith("Programmed"), what="the mended patch")
    serving.client.request("DELETE", "/api/v1/namespaces/default/envoypatches/good")
    children.wait_until(lambda: "x-host" not in get(port, "/", HOST)[1], what="the patch to be taken back")


def test_the_listener_of_a_sidecar_is_patched_and_stands_without_a_patch_that_envoy_refuses(
    children: Children,
) -> None:
    serving, inside = start_serve(children, "--envoy-patches"), port_of()
    app = start_backend(children, "shop")
    endpoints = [{"address": "127.0.0.1", "ports": {"http": inside}}]
    spec = {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints}
    put(serving, "Service", "services", "shop", spec)
    put_patch(serving, "name", SERVICE, NAMED, resource="Listener")
    twice = {"op": "copy", "from": "/filter_chains/0/filters/0", "path": "/filter_chains/0/filters/-"}
    put_patch(serving, "twice", SERVICE, twice, resource="Listener")
    flags = ["--port", str(app), "--ingress-port", str(inside), "--egress-port", str(port_of())]
    start_envoy(children, "sidecar", "shop", *flags, xds=serving.xds)
    children.wait_until(lambda: reached(inside, HOST), what="the sidecar", timeout=30)
    assert get(inside, "/", HOST)[1]["server"] == "patched"
    children.wait_until(lambda: told(serving, "twice").startswith("Rejected"), what="the refusal", timeout=30)
    assert told(serving, "name").startswith("Programmed Applied to listener")
    assert told(serving, "name").endswith("beside default/shop.")
