"""HTTPS listeners of a real Envoy: certificates over SDS, renewed under traffic, and hosts of other listeners."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from cryptography import x509

from fairlead.processes import Children
from mesh.model import Audience
from tests.support.certificates import Authority, Pair
from tests.support.programs import RunningEnvoy, Serving, start_backend, start_envoy, start_serve
from tests.support.routing import route, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

API = "/api/v1/namespaces/default"
HOST = "shop.example.com"


class Client:
    """One TLS connection to the gateway, for many requests; `server_name` is the server certificate's subject."""

    def __init__(self, port: int, sni: str, *, http2: bool = False) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
        self._socket = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname=sni
        )
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8")) if http2 else None
        if self._h2 is not None:
            assert self._socket.selected_alpn_protocol() == "h2"
            self._h2.initiate_connection()
        self._connection = http.client.HTTPConnection("gateway")
        self._connection.sock = self._socket

    @property
    def server_name(self) -> str:
        """The common name in the certificate that the server showed."""
        shown = self._socket.getpeercert(binary_form=True)
        assert shown is not None
        [attribute] = x509.load_der_x509_certificate(shown).subject
        return str(attribute.value)

    def ask(self, host: str) -> tuple[int, str | None]:
        """The status and Location of one GET."""
        if self._h2 is not None:
            return self._ask_by_http2(self._h2, host)
        self._connection.request("GET", "/", headers={"host": host})
        response = self._connection.getresponse()
        response.read()
        return response.status, response.headers["location"]

    def _ask_by_http2(self, connection: h2.connection.H2Connection, host: str) -> tuple[int, str | None]:
        """The same in a stream of its own; connections are shared by streams, which is how requests are misdirected."""
        stream = connection.get_next_available_stream_id()
        headers = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", host)]
        connection.send_headers(stream, headers, end_stream=True)
        answer: dict[str, str] = {}
        ended = False
        while not ended:
            self._socket.sendall(connection.data_to_send())
            data = self._socket.recv(65536)
            assert data, "the connection was closed"
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    answer = {str(name): str(value) for name, value in event.headers}
                ended = ended or isinstance(event, h2.events.StreamEnded)
        return int(answer[":status"]), answer.get("location")

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@contextlib.contextmanager
def asking(port: int) -> Iterator[list[str]]:
    """Requests without end on new and kept connections while the block runs; the list gets what fails."""
    failures: list[str] = []
    stop = threading.Event()

    def run(*, kept: bool) -> None:
        client = Client(port, HOST)
        while not stop.is_set():
            try:
                if not kept:
                    client.close()
                    client = Client(port, HOST)
                status, _ = client.ask(HOST)
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                return
            if status != 200:
                failures.append(str(status))
        client.close()

    threads = [threading.Thread(target=run, kwargs={"kept": kept}) for kept in (False, True)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def put(serving: Serving, kind: str, plural: str, name: str, **rest: Any) -> None:
    ours = "fairlead.dev/v1alpha1"
    versions = {
        **dict.fromkeys(("Secret", "ConfigMap"), "v1"),
        **dict.fromkeys(("Service", "ClientPolicy", "TrafficPolicy", "Backend"), ours),
    }
    version = versions.get(kind, "gateway.networking.k8s.io/v1")
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "default"}, **rest}
    serving.client.request("PUT", f"{API}/{plural}/{name}", body=body)


def put_certificate(serving: Serving, pair: Pair) -> None:
    data = {"tls.crt": pair.cert.read_text(), "tls.key": pair.key.read_text()}
    put(serving, "Secret", "secrets", "cert", type="kubernetes.io/tls", stringData=data)


def listener_updates(envoy: RunningEnvoy) -> tuple[int, int]:
    """How often listeners were created or changed, and filter chains drained for it."""
    names = ("listener_modified", "listener_added", "listener_in_place_updated")
    return sum(envoy.stat(f"listener_manager.{name}") for name in names), envoy.stat(
        "listener_manager.lds.update_rejected"
    )


@pytest.mark.parametrize("transport", [[], ["--sotw"]], ids=["delta", "sotw"])
def test_t1_a_renewed_certificate_is_used_for_new_connections_and_nothing_else_changes(
    tmp_path: Path, children: Children, transport: list[str]
) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    serving = start_serve(children)
    put_certificate(serving, authority.server("first"))
    tls = {"certificateRefs": [{"name": "cert"}]}
    listeners = [{"name": "https", "port": port, "protocol": "HTTPS", "hostname": HOST, "tls": tls}]
    put(serving, "Gateway", "gateways", "edge", spec={"gatewayClassName": "fairlead", "listeners": listeners})
    endpoints = [{"address": "127.0.0.1", "ports": {"http": start_backend(children, "shop")}}]
    put(serving, "Service", "services", "shop", spec={"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})
    rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
    put(serving, "HTTPRoute", "httproutes", "shop", spec={"parentRefs": [{"name": "edge"}], "rules": rules})
    envoy = start_envoy(children, "gateway", "edge", *transport, xds=serving.xds)

    def shown() -> str:
        client = Client(port, HOST)
        try:
            assert client.ask(HOST) == (200, None)
            return client.server_name
        finally:
            client.close()

    children.wait_until(lambda: connects(port), what="the HTTPS listener")
    assert shown() == "first"
    before = listener_updates(envoy)
    kept = Client(port, HOST)
    with asking(port) as failures:
        put_certificate(serving, authority.server("second"))
        children.wait_until(lambda: shown() == "second", what="the renewed certificate")
    assert failures == []
    assert kept.ask(HOST) == (200, None)
    assert kept.server_name == "first"
    kept.close()
    assert listener_updates(envoy) == before
    with pytest.raises(OSError, match=r"EOF|reset|UNEXPECTED|closed"):
        Client(port, "other.example.com")


def connects(port: int) -> bool:
    """Whether a TLS connection comes about."""
    try:
        Client(port, HOST).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("sotw", [False, True], ids=["delta", "sotw"])
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "h2"])
def test_hosts_of_other_listeners_are_answered_421(tmp_path: Path, http2: bool, sotw: bool) -> None:
    port = free_port()
    names = {"any": None, "wild": "*.example.com", "exact": "a.example.com", "org": "b.org"}
    tls = {"certificateRefs": [{"name": "cert"}]}
    listeners = [
        {"name": name, "port": port, "protocol": "HTTPS", "tls": tls, **({"hostname": host} if host else {})}
        for name, host in names.items()
    ]
    pair = Authority(tmp_path).server("cert")
    data = {"tls.crt": pair.cert.read_text(), "tls.key": pair.key.read_text()}
    documents = [
        {"kind": "Secret", "metadata": {"name": "cert"}, "type": "kubernetes.io/tls", "stringData": data},
        {
            "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {"gatewayClassName": "fairlead", "listeners": listeners},
        },
    ]
    text = "".join(f"{json.dumps(document)}\n---\n" for document in documents)
    for name in names:
        rule = f"\n  - filters: [{{type: RequestRedirect, requestRedirect: {{hostname: {name}.test}}}}]"
        hosts = "['*.net']" if name == "any" else "[]"
        text += route(rule, name=name, hosts=hosts, parent=f"{{name: edge, sectionName: {name}}}")
    expected = {
        ("a.example.com", "a.example.com"): "exact",
        ("a.example.com", "x.example.com"): 421,
        ("a.example.com", "c.net"): 421,
        ("x.example.com", "x.example.com"): "wild",
        ("x.example.com", "a.example.com"): 421,
        ("x.example.com", "A.Example.com:443"): 421,
        ("c.net", "B.Org"): 421,
        ("c.net", "A.example.COM:8443"): 421,
        ("a.example.com", "A.Example.COM:99"): "exact",
        ("b.org", "[::1]"): 421,
        ("x.example.com", "b.org"): 421,
        ("b.org", "b.org"): "org",
        ("b.org", "c.net"): 421,
        ("b.org", "a.example.com"): 421,
        ("x.example.com", "deep.y.example.com"): "wild",
        ("x.example.com", "c.net"): 421,
        ("c.net", "c.net"): "any",
        ("c.net", "other.net"): "any",
        ("c.net", "unknown.io"): 404,
        ("unknown.io", "unknown.io"): 404,
        ("c.net", "b.org"): 421,
        ("c.net", "y.example.com"): 421,
    }

    def answer(client: Client, host: str) -> int | str:
        status, location = client.ask(host)
        return status if location is None else location.removeprefix("https://").partition(".test")[0]

    edge = Audience("gateway", "default", "edge", sotw=sotw)
    with serving(text, tmp_path, edge), contextlib.ExitStack() as stack:
        # One connection per server name, whoever's hosts are asked for on it: so do browsers.
        clients = {sni: Client(port, sni, http2=http2) for sni in {sni for sni, _ in expected}}
        for client in clients.values():
            stack.callback(client.close)
        assert {(sni, host): answer(clients[sni], host) for sni, host in expected} == expected


def test_each_server_name_gets_its_certificate_of_several(tmp_path: Path) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    pairs = {
        "one": authority.named("one", "one.example.com"),
        "wild": authority.named("wild", "*.example.com"),
        "org": authority.named("org", "b.org"),
    }
    documents: list[dict[str, Any]] = [
        {
            "kind": "Secret",
            "metadata": {"name": name},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": pair.cert.read_text(), "tls.key": pair.key.read_text()},
        }
        for name, pair in pairs.items()
    ]
    tls = {"certificateRefs": [{"name": name} for name in pairs]}
    listeners = [{"name": "https", "port": port, "protocol": "HTTPS", "tls": tls}]
    spec = {"gatewayClassName": "fairlead", "listeners": listeners}
    documents.append({"kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec})
    expected = {"one.example.com": "one", "two.example.com": "wild", "b.org": "org", "unknown.net": "one"}

    def name_shown(sni: str) -> str:
        client = Client(port, sni)
        try:
            return client.server_name
        finally:
            client.close()

    with serving("".join(f"{json.dumps(document)}\n---\n" for document in documents), tmp_path):
        assert {sni: name_shown(sni) for sni in expected} == expected
