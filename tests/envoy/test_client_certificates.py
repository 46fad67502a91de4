"""Clients' certificates at a real Envoy: asked for and judged per port, by authorities that may be renewed."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import Children
from tests.envoy.test_https import API, put, put_certificate
from tests.support.certificates import Authority, Pair
from tests.support.programs import Serving, start_envoy, start_serve
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy


def status(port: int, pair: Pair | None) -> str:
    """The status of one GET with that certificate; empty where the client is not let in."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="a.example.com") as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nhost: a.example.com\r\nconnection: close\r\n\r\n")
            return connection.recv(100).decode().partition(" ")[2][:3]
    except OSError:
        return ""


def put_authority(serving: Serving, authority: Authority) -> None:
    put(serving, "ConfigMap", "configmaps", "ca", data={"ca.crt": authority.ca.read_text()})


@pytest.mark.shows("ClientPolicy.tls.clientValidation.crl", "configMap.name", "configMap.key")
def test_clients_need_a_certificate_of_the_authority_unless_the_port_lets_all_in(
    tmp_path: Path, children: Children
) -> None:
    strict, lax = free_port(), free_port()
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "other-ca")
    good, bad = ours.server("client"), theirs.server("stranger")
    serving = start_serve(children)
    put_certificate(serving, ours.server("server"))
    put_authority(serving, ours)
    tls = {"certificateRefs": [{"name": "cert"}]}
    listeners = [
        {"name": name, "port": port, "protocol": "HTTPS", "tls": tls} for name, port in (("s", strict), ("l", lax))
    ]
    refs: dict[str, Any] = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    fallback = {"validation": {**refs, "mode": "AllowInsecureFallback"}}
    frontend = {"default": {"validation": refs}, "perPort": [{"port": lax, "tls": fallback}]}
    spec = {"gatewayClassName": "fairlead", "listeners": listeners, "tls": {"frontend": frontend}}
    put(serving, "Gateway", "gateways", "edge", spec=spec)
    envoy = start_envoy(children, "gateway", "edge", xds=serving.xds)

    # No route is there: 404 says that the client was let in.
    children.wait_until(lambda: status(strict, good) == "404", what="a client with a good certificate")
    assert status(strict, None) == ""
    assert status(strict, bad) == ""
    children.wait_until(lambda: status(lax, good) == "404", what="the other port")
    assert status(lax, None) == "404"
    assert status(lax, bad) == "404"

    before = envoy.stat("listener_manager.lds.update_success")
    put_authority(serving, theirs)
    children.wait_until(lambda: status(strict, bad) == "404", what="the renewed authority")
    assert status(strict, good) == ""

    # What the authority takes back is told the same way.
    crl = {"configMap": {"name": "revoked", "key": "ca.crl"}}
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
    other = theirs.server("another")
    put(serving, "ConfigMap", "configmaps", "revoked", data={"ca.crl": theirs.revoking(bad)})
    spec = {"targetRefs": [target], "tls": {"clientValidation": {"crl": crl}}}
    put(serving, "ClientPolicy", "clientpolicies", "revoked", spec=spec)
    children.wait_until(lambda: status(strict, bad) == "", what="the list of certificates taken back")
    assert status(strict, other) == "404"
    put(serving, "ConfigMap", "configmaps", "revoked", data={"ca.crl": theirs.revoking(other)})
    children.wait_until(lambda: status(strict, other) == "", what="the next list")
    assert status(strict, bad) == "404"
    put(serving, "ConfigMap", "configmaps", "revoked", data={"ca.crl": theirs.revoking(left=-dt.timedelta(minutes=1))})
    children.wait_until(lambda: status(strict, bad) == "", what="nobody to be let in by a list that is out of date")
    put(serving, "ConfigMap", "configmaps", "revoked", data={"ca.crl": theirs.revoking()})
    children.wait_until(lambda: status(strict, bad) == status(strict, other) == "404", what="an empty list")
    serving.client.request("DELETE", f"{API}/configmaps/revoked")
    children.wait_until(lambda: status(strict, bad) == "", what="nobody to be let in without a list")
    assert envoy.stat("listener_manager.lds.update_success") == before
    assert envoy.stat("listener_manager.lds.update_rejected") == 0
