"""TLS, TCP and UDP through a real Envoy: server names, weights, the oldest route, renewed certificates."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fairlead.processes import Children
from tests.envoy.test_https import Client, put, put_certificate
from tests.support.certificates import Authority, Pair
from tests.support.programs import Serving, start_envoy, start_serve
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy


class _Named(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextlib.contextmanager
def tcp_backend(name: str, pair: Pair | None = None, address: str = "127.0.0.1") -> Iterator[int]:
    """A server that says its name, then repeats what it is told; over TLS where it has a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if pair is not None else None
    if context is not None and pair is not None:
        context.load_cert_chain(pair.cert, pair.key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                talk = context.wrap_socket(self.request, server_side=True) if context is not None else self.request
                with talk:
                    talk.sendall(f"{name}\n".encode())
                    while data := talk.recv(1024):
                        talk.sendall(data)

    with _served(_Named((address, 0), Handler)) as port:
        yield port


@contextlib.contextmanager
def udp_backend(name: str, address: str = "127.0.0.1") -> Iterator[int]:
    """A server that answers every datagram with its name."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request[1].sendto(name.encode(), self.client_address)

    with _served(socketserver.ThreadingUDPServer((address, 0), Handler)) as port:
        yield port


@contextlib.contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def service(serving: Serving, name: str, protocol: str, *ports: int) -> None:
    endpoints = [{"address": "127.0.0.1", "ports": {"p": port}} for port in ports]
    spec = {"ports": [{"name": "p", "port": 90, "protocol": protocol}], "endpoints": endpoints}
    put(serving, "Service", "services", name, spec=spec)


def route(serving: Serving, kind: str, name: str, section: str, *refs: tuple[str, int], **rest: Any) -> None:
    backends = [{"name": backend, "port": 90, "weight": weight} for backend, weight in refs]
    spec = {
        "parentRefs": [{"name": "edge", "sectionName": section}],
        "rules": [{"backendRefs": backends}],
        **rest,
    }
    put(serving, kind, f"{kind.lower()}s", name, spec=spec)


def gateway(serving: Serving, *listeners: dict[str, Any]) -> None:
    put(serving, "Gateway", "gateways", "edge", spec={"gatewayClassName": "fairlead", "listeners": list(listeners)})


def talk_tls(port: int, name: str) -> ssl.SSLSocket:
    """A TLS connection on which the backend has not yet spoken."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname=name)


def said(port: int, name: str) -> tuple[str, str]:
    """The subject of the certificate shown for a server name, and what the backend says; "" where it is closed."""
    try:
        with talk_tls(port, name) as connection:
            shown = connection.getpeercert(binary_form=True)
            assert shown is not None
            [subject] = x509.load_der_x509_certificate(shown).subject
            return str(subject.value), connection.recv(100).decode().strip()
    except OSError:
        return "", ""


def said_plainly(port: int) -> str:
    """What a TCP backend says first; empty where the connection is closed or refused."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            return connection.recv(100).decode().strip()
    except OSError:
        return ""


def answered(port: int) -> str:
    """The answer to a datagram of a new socket; empty where none comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.connect(("127.0.0.1", port))
        try:
            client.send(b"who?")
            return client.recv(100).decode()
        except OSError:
            return ""


def test_tls_passes_or_ends_by_server_name_on_one_port_and_a_renewed_certificate_cuts_no_connection(
    tmp_path: Path, children: Children
) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    serving = start_serve(children)
    put_certificate(serving, authority.server("first"))
    ended = {"certificateRefs": [{"name": "cert"}]}
    gateway(
        serving,
        {"name": "through", "port": port, "protocol": "TLS", "hostname": "*.a.com", "tls": {"mode": "Passthrough"}},
        {"name": "ended", "port": port, "protocol": "TLS", "hostname": "b.com", "tls": ended},
        {"name": "web", "port": port, "protocol": "HTTPS", "hostname": "c.com", "tls": ended},
    )
    with (
        tcp_backend("one", authority.server("own-one")) as one,
        tcp_backend("two", authority.server("own-two")) as two,
        tcp_backend("plain") as plain,
    ):
        for name, number in {"one": one, "two": two, "plain": plain}.items():
            service(serving, name, "TCP", number)
        route(serving, "TLSRoute", "wide", "through", ("one", 1), hostnames=["*.a.com"])
        route(serving, "TLSRoute", "exact", "through", ("two", 1), hostnames=["x.a.com"])
        route(serving, "TLSRoute", "ended", "ended", ("plain", 1), hostnames=["b.com"])
        envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: said(port, "x.a.com") == ("own-two", "two"), what="the exact server name")
        assert said(port, "deep.y.a.com") == ("own-one", "one")
        assert said(port, "b.com") == ("first", "plain")
        assert said(port, "a.com") == ("", "")
        web = Client(port, "c.com")
        assert web.server_name == "first"
        web.close()

        kept = talk_tls(port, "b.com")
        assert kept.recv(100) == b"plain\n"
        before = envoy.stat("listener_manager.lds.update_success")
        put_certificate(serving, authority.server("second"))
        children.wait_until(lambda: said(port, "b.com") == ("second", "plain"), what="the renewed certificate")
        kept.sendall(b"still here")
        assert kept.recv(100) == b"still here"
        assert envoy.stat("listener_manager.lds.update_success") == before

        # A route of another server name changes: the connection stays, for only that name's chain is replaced.
        route(serving, "TLSRoute", "exact", "through", ("one", 1), hostnames=["x.a.com"])
        children.wait_until(lambda: said(port, "x.a.com") == ("own-one", "one"), what="the changed route")
        kept.sendall(b"and still")
        assert kept.recv(100) == b"and still"
        kept.close()
        assert envoy.stat("listener_manager.lds.update_rejected") == 0


def counted(ask: Callable[[], str], times: int) -> Counter[str]:
    return Counter(ask() for _ in range(times))


def test_tcp_connections_are_shared_by_weight_and_the_oldest_route_has_the_port(children: Children) -> None:
    port, idle = free_port(), free_port()
    serving = start_serve(children)
    gateway(
        serving,
        {"name": "tcp", "port": port, "protocol": "TCP"},
        {"name": "idle", "port": idle, "protocol": "TCP"},
    )
    with tcp_backend("one") as one, tcp_backend("two") as two:
        service(serving, "one", "TCP", one)
        service(serving, "two", "TCP", two)
        route(serving, "TCPRoute", "shared", "tcp", ("one", 3), ("two", 1), ("gone", 4), ("two", 0))
        start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: bool(said_plainly(port)), what="the TCP listener")
        # A binomial share of 400: four standard deviations are 0.1 for the half, less for the others.
        shares = counted(lambda: said_plainly(port), 400)
        assert shares.keys() == {"one", "two", ""}
        assert shares[""] == pytest.approx(200, abs=40)
        assert shares["one"] == pytest.approx(150, abs=39)
        assert shares["two"] == pytest.approx(50, abs=27)
        assert said_plainly(idle) == ""


def test_udp_datagrams_are_shared_by_weight_beside_tcp_on_the_same_port(children: Children) -> None:
    port = free_port()
    serving = start_serve(children)
    gateway(
        serving,
        {"name": "udp", "port": port, "protocol": "UDP"},
        {"name": "tcp", "port": port, "protocol": "TCP"},
    )
    with udp_backend("one") as one, udp_backend("two") as two, tcp_backend("stream") as stream:
        service(serving, "one", "UDP", one)
        service(serving, "two", "UDP", two)
        service(serving, "stream", "TCP", stream)
        route(serving, "UDPRoute", "alone", "udp", ("one", 1))
        route(serving, "TCPRoute", "alone", "tcp", ("stream", 1))
        start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: answered(port) == "one", what="the UDP listener")
        children.wait_until(lambda: said_plainly(port) == "stream", what="the TCP listener of the same port")
        route(serving, "UDPRoute", "alone", "udp", ("one", 3), ("two", 1))
        children.wait_until(lambda: answered(port) == "two", what="the second backend")
        # Round robin keeps weights exactly, up to where in its round it begins.
        assert counted(lambda: answered(port), 80) == {"one": pytest.approx(60, abs=4), "two": pytest.approx(20, abs=4)}
        # A share that cannot be had is lost, and no more than that.
        route(serving, "UDPRoute", "alone", "udp", ("one", 1), ("gone", 1))
        children.wait_until(lambda: answered(port) == "", what="the share of the missing backend")
        assert counted(lambda: answered(port), 20)["one"] == pytest.approx(10, abs=3)
