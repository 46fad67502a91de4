"""Backends over TLS at a real Envoy: who is believed, under which names, and what the gateway shows of itself."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fairlead.processes import Children
from tests.envoy.test_https import put, put_certificate
from tests.support.certificates import Authority, Pair
from tests.support.programs import Serving, start_envoy, start_serve
from tests.support.routing import get
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

NAME = "shop.example.com"
SPIFFE_ID = "spiffe://cluster.local/ns/default/sa/shop"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Tell the server name that was asked for, and whose certificate was shown (empty: none); then close.

        A renewed certificate is for new connections.
        """
        assert isinstance(self.connection, ssl.SSLSocket)
        shown = self.connection.getpeercert(binary_form=True)
        subject = str(next(iter(x509.load_der_x509_certificate(shown).subject)).value) if shown else ""
        body = json.dumps({"sni": getattr(self.connection, "asked_for", ""), "client": subject}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext, address: str) -> None:
        self._context = context
        super().__init__((address, 0), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: a client that keeps silent holds up nobody else."""
        request.settimeout(10)
        with contextlib.suppress(OSError), self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)


@contextlib.contextmanager
def tls_backend(pair: Pair, clients: Path | None = None, address: str = "127.0.0.1") -> Iterator[int]:
    """An HTTPS server's port; with `clients` it takes none without a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)

    def note(secured: Any, name: str | None, _context: ssl.SSLContext) -> None:
        secured.asked_for = name or ""

    context.sni_callback = note
    server = _Server(context, address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def put_service(serving: Serving, name: str, **ports: int) -> None:
    """A service whose ports are numbered from 443; `TLS` is what a platform tells of such ports."""
    named = [{"name": at, "port": 443 + number, "protocol": "TLS"} for number, at in enumerate(ports)]
    spec = {"ports": named, "endpoints": [{"address": "127.0.0.1", "ports": ports}]}
    put(serving, "Service", "services", name, spec=spec)


def put_policy(serving: Serving, name: str, target: str, *, section: str = "", created: str = "", **rest: Any) -> None:
    ref = {"group": "", "kind": "Service", "name": target, **({"sectionName": section} if section else {})}
    validation = {"hostname": NAME, "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}], **rest}
    validation = {key: value for key, value in validation.items() if value is not None}
    put(
        serving,
        "BackendTLSPolicy",
        "backendtlspolicies",
        name,
        spec={"targetRefs": [ref], "validation": validation},
    )


def put_authority(serving: Serving, authority: Authority, name: str = "ca") -> None:
    put(serving, "ConfigMap", "configmaps", name, data={"ca.crt": authority.ca.read_text()})


def put_gateway(serving: Serving, port: int, routes: dict[str, tuple[str, int]], **spec: Any) -> None:
    listeners = [{"name": "http", "port": port, "protocol": "HTTP"}]
    put(
        serving,
        "Gateway",
        "gateways",
        "edge",
        spec={"gatewayClassName": "fairlead", "listeners": listeners, **spec},
    )
    rules = [
        {"matches": [{"path": {"value": path}}], "backendRefs": [{"name": name, "port": at}]}
        for path, (name, at) in routes.items()
    ]
    put(serving, "HTTPRoute", "httproutes", "shop", spec={"parentRefs": [{"name": "edge"}], "rules": rules})


def status(port: int, path: str) -> int:
    """The status of a GET; 0 while nobody listens."""
    try:
        return get(port, path)[0]
    except OSError:
        return 0


def test_a_backend_is_believed_by_authority_and_name_and_a_renewed_authority_changes_no_cluster(
    tmp_path: Path, children: Children
) -> None:
    port = free_port()
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "other-ca")
    serving = start_serve(children)
    put_authority(serving, ours)
    put_authority(serving, theirs, "other")
    with (
        tls_backend(ours.named("shop", NAME, SPIFFE_ID)) as at,
        tls_backend(ours.named("wild", "*.example.com")) as wild,
    ):
        for name in ("good", "name", "authority", "none", "uri", "san", "plain", "system"):
            put_service(serving, name, https=at)
        put_service(serving, "wild", https=wild)
        for name in ("good", "wild"):
            put_policy(serving, name, name)
        put_policy(serving, "name", "name", hostname="other.example.com")
        put_policy(
            serving, "authority", "authority", caCertificateRefs=[{"group": "", "kind": "ConfigMap", "name": "other"}]
        )
        missing = {"group": "", "kind": "ConfigMap", "name": "missing"}
        put_policy(serving, "none", "none", caCertificateRefs=[missing])
        # With other names the hostname is for the server name alone.
        uri = {"type": "URI", "uri": SPIFFE_ID}
        put_policy(serving, "uri", "uri", hostname="inside.example.com", subjectAltNames=[uri])
        put_policy(serving, "san", "san", subjectAltNames=[{"type": "Hostname", "hostname": "other.example.com"}])
        put_policy(serving, "system", "system", caCertificateRefs=None, wellKnownCACertificates="System")
        names = ("good", "wild", "name", "authority", "none", "uri", "san", "plain", "system")
        put_gateway(serving, port, {f"/{name}": (name, 443) for name in names})
        envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)

        children.wait_until(lambda: status(port, "/good") == 200, what="a backend over TLS")
        assert get(port, "/good")[2] == {"sni": NAME, "client": ""}
        assert get(port, "/wild")[2] == {"sni": NAME, "client": ""}
        assert get(port, "/uri")[2] == {"sni": "inside.example.com", "client": ""}
        for name in ("name", "authority", "none", "san", "system"):
            assert status(port, f"/{name}") == 503, name
        assert status(port, "/plain") == 500, "TLS that no policy is for cannot be reached by an HTTP route"

        updates = envoy.stat("cluster_manager.cds.update_success")
        put_authority(serving, ours, "other")
        children.wait_until(lambda: status(port, "/authority") == 200, what="the renewed authority")
        assert envoy.stat("cluster_manager.cds.update_success") == updates
        put_authority(serving, ours, "missing")
        children.wait_until(lambda: status(port, "/none") == 200, what="an authority that was missing")
        assert envoy.stat("cluster_manager.cds.update_rejected") == 0


def test_who_takes_over_from_a_plain_service_is_spoken_to_over_tls_and_shown_the_gateways_certificate(
    tmp_path: Path, children: Children
) -> None:
    port, authority = free_port(), Authority(tmp_path)
    serving = start_serve(children)
    put_authority(serving, authority)
    put_certificate(serving, authority.named("edge", "edge.example.com"))
    with (
        tls_backend(authority.named("shop", NAME), clients=authority.ca) as at,
        tls_backend(authority.named("other", "other.example.com")) as other,
    ):
        for name, secured in (("good", at), ("bad", other)):
            put_service(serving, name, https=secured)
            put_policy(serving, name, name)
            plain = {"ports": [{"name": "http", "port": 80}], "endpoints": []}
            put(serving, "Service", "services", f"for-{name}", spec=plain)
            spec = {"targetRefs": [{"kind": "Service", "name": f"for-{name}"}]}
            spec["failover"] = {"backendRefs": [{"name": name, "port": 443}]}
            put(serving, "TrafficPolicy", "trafficpolicies", name, spec=spec)
        shows = {"backend": {"clientCertificateRef": {"name": "cert"}}}
        put_gateway(serving, port, {f"/{name}": (f"for-{name}", 80) for name in ("good", "bad")}, tls=shows)
        start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: status(port, "/good") == 200, what="a backend over TLS that takes over")
        assert get(port, "/good")[2] == {"sni": NAME, "client": "edge"}
        assert status(port, "/bad") == 503, "its certificate bears another name"


def test_a_policy_for_a_port_counts_before_one_for_the_service_and_without_one_the_port_is_plain_again(
    tmp_path: Path, children: Children
) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    serving = start_serve(children)
    put_authority(serving, authority)
    with (
        tls_backend(authority.named("one", "one.example.com")) as one,
        tls_backend(authority.named("two", "two.example.com")) as two,
    ):
        put_service(serving, "shop", first=one, second=two)
        put_policy(serving, "whole", "shop", hostname="one.example.com")
        put_policy(serving, "port", "shop", hostname="two.example.com", section="second")
        put_gateway(serving, port, {"/one": ("shop", 443), "/two": ("shop", 444)})
        start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: status(port, "/one") == 200, what="the first port")
        children.wait_until(lambda: status(port, "/two") == 200, what="the second port")
        assert get(port, "/one")[2]["sni"] == "one.example.com"
        assert get(port, "/two")[2]["sni"] == "two.example.com"
        serving.client.request("DELETE", "/api/v1/namespaces/default/backendtlspolicies/port")
        children.wait_until(lambda: status(port, "/two") == 503, what="the policy for the whole service")
        serving.client.request("DELETE", "/api/v1/namespaces/default/backendtlspolicies/whole")
        children.wait_until(lambda: status(port, "/one") == 500, what="no policy at all")


def test_a_gateway_shows_its_certificate_to_backends_and_a_renewed_one_too(tmp_path: Path, children: Children) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    serving = start_serve(children)
    put_authority(serving, authority)
    put_certificate(serving, authority.named("edge", "edge.example.com"))
    with tls_backend(authority.named("shop", NAME), clients=authority.ca) as at:
        put_service(serving, "shop", https=at)
        put_policy(serving, "shop", "shop")
        put_gateway(serving, port, {"/": ("shop", 443)})
        start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: status(port, "/") == 503, what="a backend that wants a certificate")
        put_gateway(serving, port, {"/": ("shop", 443)}, tls={"backend": {"clientCertificateRef": {"name": "cert"}}})
        children.wait_until(lambda: status(port, "/") == 200, what="the certificate to be shown")
        assert get(port, "/")[2] == {"sni": NAME, "client": "edge"}
        put_certificate(serving, authority.named("renewed", "edge.example.com"))
        children.wait_until(lambda: get(port, "/")[2]["client"] == "renewed", what="the renewed certificate")


def test_what_the_system_trusts_is_the_servers_system_wherever_the_proxy_runs(
    tmp_path: Path, children: Children
) -> None:
    port = free_port()
    authority = Authority(tmp_path)
    serving = start_serve(children, env={"SSL_CERT_FILE": str(authority.ca)})
    with tls_backend(authority.named("shop", NAME)) as at:
        put_service(serving, "shop", https=at)
        put_policy(serving, "shop", "shop", caCertificateRefs=None, wellKnownCACertificates="System")
        put_gateway(serving, port, {"/": ("shop", 443)})
        start_envoy(children, "gateway", "edge", xds=serving.xds)
        children.wait_until(lambda: status(port, "/") == 200, what="a backend that the system's authorities vouch for")
