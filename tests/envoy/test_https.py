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

import pytest
from cryptography import x509

from fairlead.processes import Children
from tests.support.certificates import Authority, Pair
from tests.support.programs import RunningEnvoy, Serving, start_backend, start_envoy, start_serve
from tests.support.routing import route, serving
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

API = "/api/v1/namespaces/default"
HOST = "shop.example.com"


class Client:
    """One TLS connection to the gateway, for many requests; `server_name` is the server certificate's subject."""

    def __init__(self, port: int, sni: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = context.wrap_socket(
            socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname=sni
        )
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
        self._connection.request("GET", "/", headers={"host": host})
        response = self._connection.getresponse()
        response.read()
        return response.status, response.headers["location"]

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
    versions = {"Secret": "v1", "ConfigMap": "v1", "Service": ours, "ClientPolicy": ours, "Backend": ours}
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


def test_hosts_of_other_listeners_are_answered_421(tmp_path: Path) -> None:
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
        text += route(rule, name=name, hosts="[]", parent=f"{{name: edge, sectionName: {name}}}")
    expected = {
        ("a.example.com", "a.example.com"): "exact",
        ("a.example.com", "x.example.com"): 421,
        ("a.example.com", "c.net"): 421,
        ("x.example.com", "x.example.com"): "wild",
        ("x.example.com", "a.example.com"): 421,
        ("x.example.com", "A.Example.com:443"): 421,
        ("x.example.com", "b.org"): 421,
        ("b.org", "b.org"): "org",
        ("b.org", "c.net"): 421,
        ("c.net", "c.net"): "any",
        ("c.net", "b.org"): 421,
        ("c.net", "y.example.com"): 421,
    }

    def answer(sni: str, host: str) -> int | str:
        client = Client(port, sni)
        status, location = client.ask(host)
        client.close()
        return status if location is None else location.removeprefix("https://").partition(".test")[0]

    with serving(text, tmp_path):
        assert {(sni, host): answer(sni, host) for sni, host in expected} == expected
