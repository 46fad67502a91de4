"""HTTP/3: a real client over QUIC, beside the same listener over TCP."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aioquic.tls import SessionTicket

from fairlead.processes import Children
from tests.envoy.test_https import API, put, put_certificate
from tests.support.certificates import Authority
from tests.support.edge import policy
from tests.support.http3 import get3
from tests.support.programs import start_backend, start_envoy, start_serve
from tests.support.routing import Server, document, route, service, serving, wait_until
from tests.support.secrets import secret
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

TLS = {"certificateRefs": [{"name": "cert"}]}


def gateway(port: int, *hosts: str) -> dict[str, Any]:
    listeners = [
        {"name": f"l{number}", "port": port, "protocol": "HTTPS", "hostname": host, "tls": TLS}
        for number, host in enumerate(hosts)
    ]
    return {"gatewayClassName": "fairlead", "listeners": listeners}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]


def ask_over_tls(port: int, host: str, path: str) -> Answer:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPConnection(host)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        connection.sock = context.wrap_socket(plain, server_hostname=host)
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
    return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()})


def speaks(port: int, host: str) -> bool:
    """Whether a request over HTTP/3 is answered 200 within five seconds."""
    try:
        return get3(port, host, patience=5).status == 200
    except ConnectionError:
        return False


@pytest.mark.shows("ClientPolicy.http3", "enabled", "advertisedPort", "advertisedFor")
def test_a_client_comes_by_quic_where_the_policy_says_so(tmp_path: Path, backend: Server) -> None:
    port, quiet = free_port(), "b.example.com"
    pair = Authority(tmp_path).server("cert")
    text = secret("cert", crt=pair.cert.read_text(), key=pair.key.read_text()) + "\n---\n"
    text += document("Gateway", "edge", gateway(port, "a.example.com", quiet)) + service("echo", backend.server_port)
    text += route("\n  - backendRefs: [{name: echo, port: 80}]", hosts=f"[a.example.com, {quiet}]")
    text += policy("h3", "l0", http3={"enabled": True, "advertisedPort": 443, "advertisedFor": "1h"})
    with serving(text, tmp_path):
        told = ask_over_tls(port, "a.example.com", "/told")
        assert (told.status, told.headers["alt-svc"]) == (200, 'h3=":443"; ma=3600')
        assert "alt-svc" not in ask_over_tls(port, quiet, "/").headers
        answer = get3(port, "a.example.com", "/by-quic")
        assert (answer.status, json.loads(answer.body)["path"]) == (200, "/by-quic")
        assert "alt-svc" not in answer.headers
        assert get3(port, "a.example.com", "/a/../b%2Fc").status == 307  # as careful with paths as over TCP
        assert not speaks(port, quiet)
    assert [request["headers"]["x-forwarded-proto"] for request in backend.seen] == ["https"] * 3


@pytest.mark.shows(
    "ClientPolicy.http3", "maxConcurrentStreams", "initialStreamWindowSize", "initialConnectionWindowSize"
)
def test_http3_is_spoken_as_the_policy_says(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    pair = Authority(tmp_path).server("cert")
    text = secret("cert", crt=pair.cert.read_text(), key=pair.key.read_text()) + "\n---\n"
    text += document("Gateway", "edge", gateway(port, "a.example.com")) + service("echo", backend.server_port)
    text += route("\n  - backendRefs: [{name: echo, port: 80}]")
    limits = {"maxConcurrentStreams": 7, "initialStreamWindowSize": 70_000, "initialConnectionWindowSize": 200_000}
    with serving(text + policy("h3", http3={"enabled": True, **limits}), tmp_path):
        answer = get3(port, "a.example.com")
        assert answer.status == 200
        connection, stream, streams = answer.limits
        assert (connection, stream) == (200_000, 70_000)
        assert 7 <= streams <= 8  # one more for each that has ended


def test_a_client_that_comes_back_begins_anew_where_the_policy_says_so(tmp_path: Path, backend: Server) -> None:
    port, hosts = free_port(), ("a.example.com", "b.example.com")
    pair = Authority(tmp_path).server("cert")
    text = secret("cert", crt=pair.cert.read_text(), key=pair.key.read_text()) + "\n---\n"
    text += document("Gateway", "edge", gateway(port, *hosts)) + service("echo", backend.server_port)
    text += route("\n  - backendRefs: [{name: echo, port: 80}]", hosts=f"[{', '.join(hosts)}]")
    text += policy("h3", http3={"enabled": True})
    text += policy("anew", "l1", tls={"sessionResumption": {"stateless": False}})
    with serving(text, tmp_path):
        kept: dict[str, list[SessionTicket]] = {host: [] for host in hosts}
        for _ in range(3):
            first, anew = (get3(port, host, tickets=kept[host]) for host in hosts)
            assert (first.status, anew.status, anew.resumed) == (200, 200, False)
        wait_until(lambda: bool(kept[hosts[0]]) and get3(port, hosts[0], tickets=kept[hosts[0]]).resumed)
        assert kept[hosts[1]] == []


@pytest.mark.shows("ClientPolicy.http3", "earlyData")
def test_what_can_be_sent_again_is_taken_only_where_the_policy_says_so(tmp_path: Path, backend: Server) -> None:
    port, hosts = free_port(), ("a.example.com", "b.example.com")
    pair = Authority(tmp_path).server("cert")
    text = secret("cert", crt=pair.cert.read_text(), key=pair.key.read_text()) + "\n---\n"
    text += document("Gateway", "edge", gateway(port, *hosts)) + service("echo", backend.server_port)
    text += route("\n  - backendRefs: [{name: echo, port: 80}]", hosts=f"[{', '.join(hosts)}]")
    text += policy("h3", http3={"enabled": True}) + policy("early", "l1", http3={"earlyData": True})

    def came(host: str) -> tuple[bool, str | None]:
        """Whether a request was taken early, and what the backend is told of that."""
        tickets: list[SessionTicket] = []
        wait_until(lambda: get3(port, host, tickets=tickets).status == 200 and bool(tickets))
        answer = get3(port, host, f"/pay/{host}", tickets=tickets, early=True)
        assert (answer.status, answer.resumed) == (200, True)
        return answer.early, json.loads(answer.body)["headers"].get("early-data")

    with serving(text, tmp_path):
        assert [came(host) for host in hosts] == [(False, None), (True, "1")]


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
def test_http3_comes_and_goes_with_its_policy(tmp_path: Path, children: Children, transport: list[str]) -> None:
    port, host = free_port(), "shop.example.com"
    serving = start_serve(children)
    put_certificate(serving, Authority(tmp_path).server("cert"))
    put(serving, "Gateway", "gateways", "edge", spec=gateway(port, host))
    endpoints = [{"address": "127.0.0.1", "ports": {"http": start_backend(children, "shop")}}]
    put(serving, "Service", "services", "shop", spec={"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})
    rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
    put(serving, "HTTPRoute", "httproutes", "shop", spec={"parentRefs": [{"name": "edge"}], "rules": rules})
    envoy = start_envoy(children, "gateway", "edge", *transport, xds=serving.xds)
    children.wait_until(lambda: envoy.stat("listener_manager.total_listeners_active") == 1, what="the listener")
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
    for _ in range(2):
        put(serving, "ClientPolicy", "clientpolicies", "h3", spec={"targetRefs": [target], "http3": {"enabled": True}})
        children.wait_until(lambda: speaks(port, host), what="HTTP/3", timeout=60)
        serving.client.request("DELETE", f"{API}/clientpolicies/h3")
        children.wait_until(lambda: envoy.stat("listener_manager.total_listeners_active") == 1, what="it to go")
        assert ask_over_tls(port, host, "/").status == 200
