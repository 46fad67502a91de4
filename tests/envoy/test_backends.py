"""Destinations outside the catalog at a real Envoy: by name, by address, by Unix socket, and as clients choose."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children
from tests.envoy.test_backend_tls import NAME, put_authority, tls_backend
from tests.envoy.test_https import API, put
from tests.envoy.test_stream_routes import said, said_plainly, tcp_backend, udp_backend
from tests.support.certificates import Authority
from tests.support.dns_server import name_server
from tests.support.programs import Serving, start_envoy, start_serve
from tests.support.static_envoy import ENVOY, free_port

pytestmark = pytest.mark.envoy

REF = {"group": "fairlead.dev", "kind": "Backend"}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Tell who answers, and for what host."""
        body = f"{self.server.who} {self.headers['host']}".encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        """Of a Unix socket there is no address."""
        return "client"


class _AtPath(_Handler):
    disable_nagle_algorithm = False  # of TCP only


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def backend(who: str, at: str) -> Iterator[int]:
    """A server at an address, or at a path; its port."""
    server: Any = _Unix(at, _AtPath) if at.startswith("/") else http.server.ThreadingHTTPServer((at, 0), _Handler)
    server.who = who
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield 0 if at.startswith("/") else int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def own_name() -> tuple[str, str]:
    """This machine's name, and the address that it resolves to: the traffic does not leave the machine."""
    name = socket.gethostname().lower()
    return name, socket.gethostbyname(name)


def own_address() -> str:
    """An address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("192.0.2.1", 9))  # nothing is sent
        return str(asking.getsockname()[0])


def put_backend(serving: Serving, name: str, *endpoints: dict[str, Any], **spec: Any) -> None:
    put(serving, "Backend", "backends", name, spec={**({"endpoints": list(endpoints)} if endpoints else {}), **spec})


def put_gateway(serving: Serving, port: int, udp: int = 0) -> None:
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    if udp:
        listeners.append({"name": "udp", "port": udp, "protocol": "UDP"})
    put(serving, "Gateway", "gateways", "edge", spec={"gatewayClassName": "fairlead", "listeners": listeners})


def put_route(serving: Serving, host: str, *names: str) -> None:
    refs = [{**REF, "name": name} for name in names]
    spec = {
        "parentRefs": [{"name": "edge", "sectionName": "http"}],
        "hostnames": [host],
        "rules": [{"backendRefs": refs}],
    }
    put(serving, "HTTPRoute", "httproutes", host.replace("*", "any").replace(".", "-"), spec=spec)


def ask(port: int, host: str) -> tuple[int, str]:
    """The answer to a GET for a host; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/", headers={"host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


def test_a_destination_is_reached_by_name_by_address_and_by_socket_and_moves_when_it_is_changed(
    tmp_path: Path, children: Children
) -> None:
    port = free_port()
    name, resolved = own_name()
    address, path = own_address(), str(tmp_path / "s")
    serving = start_serve(children)
    put_gateway(serving, port)
    with backend("name", resolved) as by_name, backend("address", address) as by_address, backend("socket", path):
        put_backend(serving, "named", {"fqdn": {"hostname": name, "port": by_name}})
        put_backend(serving, "addressed", {"ip": {"address": address, "port": by_address}})
        put_backend(serving, "socket", {"unix": {"path": path}})
        for one in ("named", "addressed", "socket", "none"):
            put_route(serving, f"{one}.example.com", one)
        envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
        for one, who in (("named", "name"), ("addressed", "address"), ("socket", "socket")):
            host = f"{one}.example.com"
            children.wait_until(
                lambda host=host, who=who: ask(port, host) == (200, f"{who} {host}"), what=f"{one} to be reached"
            )
        assert ask(port, "none.example.com")[0] == 500
        assert envoy.stat("cluster.backend/default/named.upstream_rq_200") >= 1
        put_backend(serving, "named", {"unix": {"path": path}})
        children.wait_until(lambda: ask(port, "named.example.com")[1].startswith("socket"), what="the change")
        put_backend(serving, "none", {"ip": {"address": address, "port": by_address}})
        children.wait_until(lambda: ask(port, "none.example.com")[0] == 200, what="the Backend that was missing")
        serving.client.request("DELETE", f"{API}/backends/none")
        children.wait_until(lambda: ask(port, "none.example.com")[0] == 500, what="the Backend to be gone")


def test_a_destination_outside_is_spoken_to_over_tls_where_a_policy_for_it_says_so(
    tmp_path: Path, children: Children
) -> None:
    port = free_port()
    name, resolved = own_name()
    authority = Authority(tmp_path)
    serving = start_serve(children)
    put_gateway(serving, port)
    put_authority(serving, authority)
    with tls_backend(authority.named("shop", NAME), address=resolved) as at:
        for one, hostname in (("good", NAME), ("bad", "other.example.com")):
            put_backend(serving, one, {"fqdn": {"hostname": name, "port": at}})
            validation = {
                "hostname": hostname,
                "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
            }
            spec = {"targetRefs": [{**REF, "name": one}], "validation": validation}
            put(serving, "BackendTLSPolicy", "backendtlspolicies", one, spec=spec)
            put_route(serving, f"{one}.example.com", one)
        start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: ask(port, "good.example.com")[0] == 200, what="the TLS backend")
        assert f'"sni": "{NAME}"' in ask(port, "good.example.com")[1]
        assert ask(port, "bad.example.com")[0] == 503


def test_datagrams_go_to_an_address_outside(children: Children) -> None:
    port, udp = free_port(), free_port()
    serving = start_serve(children)
    put_gateway(serving, port, udp)
    address = own_address()
    with udp_backend("dns", address) as at:
        put_backend(serving, "dns", {"ip": {"address": address, "port": at}}, protocol="UDP")
        spec = {
            "parentRefs": [{"name": "edge", "sectionName": "udp"}],
            "rules": [{"backendRefs": [{**REF, "name": "dns"}]}],
        }
        put(serving, "UDPRoute", "udproutes", "dns", spec=spec)
        start_envoy(children, "gateway", "edge", xds=serving.xds)

        def answered() -> bool:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(1)
                asking.connect(("127.0.0.1", udp))
                try:
                    asking.send(b"?")
                    return asking.recv(100) == b"dns"
                except OSError:
                    return False

        children.wait_until(answered, what="an answer")


def test_connections_of_tcp_and_tls_routes_go_to_an_address_outside(tmp_path: Path, children: Children) -> None:
    plain, tls = free_port(), free_port()
    pair = Authority(tmp_path).server("outside")
    serving = start_serve(children)
    listeners = [
        {"name": "tcp", "port": plain, "protocol": "TCP"},
        {"name": "tls", "port": tls, "protocol": "TLS", "tls": {"mode": "Passthrough"}},
    ]
    put(serving, "Gateway", "gateways", "edge", spec={"gatewayClassName": "fairlead", "listeners": listeners})
    address = own_address()
    with tcp_backend("bytes", address=address) as bytes_at, tcp_backend("sealed", pair, address) as sealed_at:
        for name, at, kind in (("bytes", bytes_at, "TCPRoute"), ("sealed", sealed_at, "TLSRoute")):
            put_backend(serving, name, {"ip": {"address": address, "port": at}}, protocol="TCP")
            spec: dict[str, Any] = {
                "parentRefs": [{"name": "edge", "sectionName": kind[:3].lower()}],
                "rules": [{"backendRefs": [{**REF, "name": name}]}],
            }
            if kind == "TLSRoute":
                spec["hostnames"] = ["a.example.com"]
            put(serving, kind, f"{kind.lower()}s", name, spec=spec)
        start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: said_plainly(plain) == "bytes", what="the TCP destination")
        children.wait_until(lambda: said(tls, "a.example.com")[1] == "sealed", what="the TLS destination")
        assert said(tls, "b.example.com") == ("", "")


@pytest.fixture
def names() -> Iterator[tuple[str, ...]]:
    """Arguments for an Envoy that finds addresses for some names of `example.com`."""
    known = {
        "here": own_address(),
        "private": "10.255.255.1",
        "cgnat": "100.64.0.1",
        "loop": "127.0.0.1",
        "meta": "169.254.169.254",
        "mapped": "::ffff:127.0.0.1",
        "six": "::1",
    }
    with name_server({f"{name}.example.com": address for name, address in known.items()}) as arguments:
        yield ("--log-level", "warning", "--concurrency", "1", *arguments)


def test_clients_choose_among_the_hostnames_of_a_dynamic_resolver_and_nothing_else(
    children: Children, names: tuple[str, ...]
) -> None:
    port = free_port()
    serving = start_serve(children)
    put_gateway(serving, port)
    with backend("chosen", own_address()) as at:
        put_backend(serving, "chosen", dynamicResolver={"hostnames": ["*.example.com"]})
        put_route(serving, "*.example.com", "chosen")
        envoy = start_envoy(children, "gateway", "edge", xds=serving.xds, arguments=names, binary=ENVOY)
        host = f"here.example.com:{at}"
        children.wait_until(lambda: ask(port, host) == (200, f"chosen {host}"), what="the chosen destination")
        for hostile in (
            f"localhost:{at}",
            f"{own_address()}:{at}",
            f"127.0.0.1:{envoy.admin}",
            f"[::1]:{envoy.admin}",
            "169.254.169.254",
        ):
            assert ask(port, hostile)[0] == 404, hostile
        admin = f"127.0.0.1:{envoy.admin}"
        for odd in (f"{admin}#.example.com", f"{admin}.example.com", f"a.example.com@{admin}", "a@b.example.com"):
            assert ask(port, odd)[0] in (400, 404, 503), odd
        spec = {
            "parentRefs": [{"name": "edge", "sectionName": "http"}],
            "rules": [{"backendRefs": [{**REF, "name": "chosen"}]}],
        }
        put(serving, "HTTPRoute", "httproutes", "open", spec=spec)  # names no hostname: an open proxy
        children.wait_until(lambda: ask(port, f"127.0.0.1:{envoy.admin}")[0] == 500, what="the open route")
        assert ask(port, host)[0] == 200


def test_no_name_leads_to_the_proxy_itself_or_its_link_and_to_private_networks_only_if_allowed(
    children: Children, names: tuple[str, ...]
) -> None:
    port = free_port()
    serving = start_serve(children)
    put_gateway(serving, port)
    put_backend(serving, "chosen", dynamicResolver={"hostnames": ["*.example.com"]})
    put_route(serving, "*.example.com", "chosen")
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds, arguments=names, binary=ENVOY)
    tried = "cluster.backend/default/chosen.upstream_cx_total"
    children.wait_until(lambda: ask(port, "loop.example.com")[0] == 503, what="the route")
    for name in ("private", "cgnat", "loop", "meta", "mapped", "six"):
        assert ask(port, f"{name}.example.com:{envoy.admin}")[0] == 503, name
    assert envoy.stat(tried) == 0, "nobody was connected to"

    put_backend(serving, "chosen", dynamicResolver={"hostnames": ["*.example.com"], "allowPrivateAddresses": True})

    def connects() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: private.example.com\r\n\r\n")
            return envoy.stat(tried) > 0

    children.wait_until(connects, what="the private address to be tried")
    before = envoy.stat(tried)
    for name in ("loop", "meta", "mapped", "six"):
        assert ask(port, f"{name}.example.com:{envoy.admin}")[0] == 503, name
    assert envoy.stat(tried) == before
