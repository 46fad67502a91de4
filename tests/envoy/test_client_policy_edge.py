"""What ClientPolicies do at the edge beside TLS and limits: headers told, added and taken off, probes, sockets.

Each listener of a gateway has a policy of its own, so that one Envoy shows several.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import json
import re
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.envoy.test_client_certificates import status
from tests.support.certificates import Authority, Pair
from tests.support.edge import Edge, dialled, policy, read_to_end
from tests.support.routing import Server, document, get, route, service, serving, wait_until
from tests.support.secrets import secret
from tests.support.static_envoy import free_port

pytestmark = pytest.mark.envoy

HOST = "a.example.com"
FORGED = "By=forged"


@pytest.mark.shows(
    "ClientPolicy.headers.earlyRequestHeaders",
    "set.name",
    "set.value",
    "add.name",
    "add.value",
    "remove",
)
@pytest.mark.shows(
    "ClientPolicy.headers.lateResponseHeaders",
    "set.name",
    "set.value",
    "add.name",
    "add.value",
    "remove",
)
@pytest.mark.shows("ClientPolicy.clientAddress", "rejectWithStatus")
def test_headers_change_before_anything_is_matched_and_after_everything_else(tmp_path: Path, backend: Server) -> None:
    early = {
        "set": [
            {"name": "X-Client", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
            {"name": "x-to", "value": "b"},
            {"name": "x-peer", "value": "%DOWNSTREAM_PEER_SUBJECT%"},
        ],
        "add": [{"name": "x-via", "value": "edge"}],
        "remove": ["X-Debug"],
    }
    late = {
        "set": [{"name": "x-status", "value": "%RESPONSE_CODE% of %REQ(x-to)%"}],
        "add": [{"name": "x-served", "value": "%PROTOCOL%"}],
        "remove": ["X-Envoy-Upstream-Service-Time"],
    }
    edge = Edge(
        backend.server_port,
        plain={},
        changed={"headers": {"earlyRequestHeaders": early, "lateResponseHeaders": late}},
        known={"clientAddress": {"header": "x-real-ip", "rejectWithStatus": 403}},
    )
    only_b = "{headers: [{name: x-to, value: b}], path: {value: /to}}"
    text = edge.text + route(f"\n  - matches: [{only_b}]\n    backendRefs: [{{name: gone, port: 80}}]", name="to-b")
    with serving(text, tmp_path):
        plain, changed = edge.ports["plain"], edge.ports["changed"]
        _, headers, echoed = get(plain, "/", x_to="a", x_debug="1", x_via="proxy", x_client="forged")
        assert (echoed["headers"]["x-debug"], echoed["headers"]["x-client"]) == ("1", "forged")
        assert "x-envoy-upstream-service-time" in headers
        forged = {"x_client": "forged", "x_peer": "forged"}  # of a client that has shown no certificate
        _, headers, echoed = get(changed, "/", x_to="a", x_debug="1", x_via="proxy", **forged)
        seen = {name: echoed["headers"].get(name) for name in ("x-to", "x-client", "x-via", "x-debug", "x-peer")}
        assert seen == {"x-to": "b", "x-client": "127.0.0.1", "x-via": "edge", "x-debug": None, "x-peer": ""}
        told = {name: headers.get(name) for name in ("x-status", "x-served", "x-envoy-upstream-service-time")}
        assert told == {"x-status": "200 of b", "x-served": "HTTP/1.1", "x-envoy-upstream-service-time": None}
        # Routes are found by what a request has become, and answers of the proxy itself change too.
        assert get(plain, "/to", x_to="a")[0] == 200
        assert get(changed, "/to", x_to="a")[1]["x-status"] == "500 of b"
        assert get(changed, "/", host="nobody.example.com")[1]["x-status"] == "404 of b"
        assert [get(edge.ports["known"], "/", x_real_ip=ip)[0] for ip in ("192.0.2.1", "nonsense")] == [200, 403]
        assert get(edge.ports["known"], "/")[0] == 403


def mutual_edge(backend: int, ours: Authority, **modes: Any) -> tuple[str, dict[str, int]]:
    """A gateway with a listener for each policy: `plain…` are of HTTP, `lax…` take any certificate."""
    ports = {name: free_port() for name in modes}
    pair = ours.server("cert")
    tls = {"certificateRefs": [{"name": "cert"}]}
    listeners = [
        {"name": name, "port": port, **({"protocol": "HTTP"} if "plain" in name else {"protocol": "HTTPS", "tls": tls})}
        for name, port in ports.items()
    ]
    validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    lax = {"validation": {**validation, "mode": "AllowInsecureFallback"}}
    per_port = [{"port": port, "tls": lax} for name, port in ports.items() if "lax" in name]
    frontend = {"frontend": {"default": {"validation": validation}, "perPort": per_port}}
    spec = {"gatewayClassName": "fairlead", "listeners": listeners, "tls": frontend}
    text = document("Gateway", "edge", spec) + service("echo", backend)
    text += route("\n  - backendRefs: [{name: echo, port: 80}]")
    text += secret("cert", crt=pair.cert.read_text(), key=pair.key.read_text()) + "\n---\n"
    held = {"metadata": {"name": "ca", "namespace": "default"}, "data": {"ca.crt": ours.ca.read_text()}}
    text += json.dumps({"apiVersion": "v1", "kind": "ConfigMap", **held}) + "\n---\n"
    for name, spec in modes.items():
        text += policy(name, name, **spec) if spec else ""
    return text, ports


def asked(port: int, pair: Pair | None, **headers: str) -> dict[str, str]:
    """The headers that a backend is told for a client with that certificate, over TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    connection = http.client.HTTPConnection(HOST)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        connection.sock = context.wrap_socket(plain, server_hostname=HOST)
        connection.request("GET", "/", headers={name.replace("_", "-"): value for name, value in headers.items()})
        echoed: dict[str, str] = json.loads(connection.getresponse().read())["headers"]
        connection.close()
    return echoed


@pytest.mark.shows("ClientPolicy.headers.xForwardedClientCert", "mode", "certDetailsToAdd")
def test_backends_are_told_of_clients_certificates_as_the_policy_says(tmp_path: Path, backend: Server) -> None:
    def told(mode: str, *details: str) -> dict[str, Any]:
        return {
            "headers": {"xForwardedClientCert": {"mode": mode, **({"certDetailsToAdd": details} if details else {})}}
        }

    def claims(name: str, of: str) -> dict[str, Any]:
        return {"set": [{"name": name, "value": f"%DOWNSTREAM_PEER_{of}%"}]}

    everything = ("Subject", "Cert", "Chain", "DNS", "URI")
    claim = {"headers": {"earlyRequestHeaders": claims("x-subject", "SUBJECT")}}
    ours = Authority(tmp_path)
    client = ours.named("client", "client.example.com", "spiffe://here/client")
    text, ports = mutual_edge(
        backend.server_port,
        ours,
        default={},
        taken=told("Sanitize"),
        kept=told("ForwardOnly"),
        added=told("AppendForward", "URI"),
        own=told("SanitizeSet", *everything),
        bare=told("SanitizeSet"),
        plainkept=told("ForwardOnly"),
        plainown=told("SanitizeSet", *everything),
        plainalways=told("AlwaysForwardOnly"),
        laxkept=told("ForwardOnly"),
        laxadded=told("AppendForward", "URI"),
        laxown=told("SanitizeSet", "URI"),
        laxalways=told("AlwaysForwardOnly"),
        who=claim,
        laxwho=claim,
    )
    spec = {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}]}
    text += document("RoutePolicy", "who", {**spec, "headers": {"request": claims("x-uri", "URI_SAN")}})
    stranger = Authority(tmp_path, "other-ca").named("stranger", "spiffe://here/client")
    with serving(text, tmp_path):
        found = {}
        for name, port in ports.items():
            forged, pair = {"x_forwarded_client_cert": FORGED}, stranger if "lax" in name else client
            plain = "plain" in name
            headers = get(port, "/", **forged)[2]["headers"] if plain else asked(port, pair, host=HOST, **forged)
            found[name] = headers.get("x-forwarded-client-cert")
        believed = {"host": HOST, "x_subject": "CN=client", "x_uri": "spiffe://here/client"}
        judged, unjudged = asked(ports["who"], client, **believed), asked(ports["laxwho"], stranger, **believed)
    assert (judged["x-subject"], judged["x-uri"]) == ("CN=client", "spiffe://here/client")
    assert not {"x-subject", "x-uri"} & set(unjudged)
    nothing = {"default", "who", "laxwho", "taken", "plainkept", "plainown", "laxkept", "laxadded", "laxown"}
    assert {name for name, value in found.items() if value is None} == nothing
    assert found["kept"] == found["plainalways"] == found["laxalways"] == FORGED
    digest = "Hash=[0-9a-f]{64}"
    assert re.fullmatch(f"{FORGED},{digest};URI=spiffe://here/client", str(found["added"]))
    assert re.fullmatch(digest, str(found["bare"]))
    own = f'{digest};Cert="[^"]+";Chain="[^"]+";Subject="CN=client";URI=spiffe://here/client;DNS=client.example.com'
    assert re.fullmatch(own, str(found["own"]))


@pytest.mark.shows("ClientPolicy.tls.clientValidation", "spkiHashes", "certificateHashes")
@pytest.mark.shows("ClientPolicy.tls.clientValidation.crl", "onlyVerifyLeafCertificate")
@pytest.mark.shows("ClientPolicy.tls.clientValidation.subjectAltNames", "type", "exact", "prefix", "suffix")
def test_clients_are_let_in_whose_certificates_are_as_the_policy_says(tmp_path: Path, backend: Server) -> None:
    def rules(**given: Any) -> dict[str, Any]:
        return {"tls": {"clientValidation": given}}

    def names(kind: str, **how: str) -> dict[str, Any]:
        return rules(subjectAltNames=[{"type": kind, "exact": "nobody.example.org"}, {"type": kind, **how}])

    ours = Authority(tmp_path)
    theirs = Authority(tmp_path, "intermediate", under=ours)
    below, revoked = theirs.named("below", "below.example.org"), theirs.named("revoked", "revoked.example.org")
    crl = {"configMap": {"name": "revoked", "key": "ca.crl"}}
    client = ours.named("client", "client.example.com", "spiffe://here/client")
    other = ours.odd("other", x509.IPAddress(ipaddress.ip_address("192.0.2.1")), x509.RFC822Name("other@example.com"))
    certificate = x509.load_pem_x509_certificate(client.cert.read_bytes())
    der, spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    key = base64.b64encode(hashlib.sha256(certificate.public_key().public_bytes(der, spki)).digest()).decode()
    digest = hashlib.sha256(certificate.public_bytes(der)).hexdigest()
    text, ports = mutual_edge(
        backend.server_port,
        ours,
        default={},
        spki=rules(spkiHashes=["A" * 43 + "=", key]),
        hash=rules(certificateHashes=[digest.upper()]),
        either=rules(spkiHashes=["A" * 43 + "="], certificateHashes=[digest]),
        both=rules(spkiHashes=[key], subjectAltNames=[{"type": "DNS", "exact": "other.example.com"}]),
        exact=names("DNS", exact="client.example.com"),
        prefix=names("URI", prefix="spiffe://here/"),
        suffix=names("Email", suffix="@example.com"),
        leaf=rules(crl={**crl, "onlyVerifyLeafCertificate": True}),
        whole=rules(crl=crl),  # of the root there is no list
        address=rules(subjectAltNames=[{"type": "IP", "exact": "192.0.2.1"}]),
    )
    held = {"metadata": {"name": "revoked", "namespace": "default"}, "data": {"ca.crl": theirs.revoking(revoked)}}
    text += json.dumps({"apiVersion": "v1", "kind": "ConfigMap", **held}) + "\n---\n"
    with serving(text, tmp_path):
        clients = (client, other, below, revoked)
        let_in = {name: [status(port, pair) for pair in clients] for name, port in ports.items()}
    ours_only, other_only = ["200", "", "", ""], ["", "200", "", ""]
    assert let_in == {
        "default": ["200"] * 4,
        "leaf": ["", "", "200", ""],
        "whole": [""] * 4,
        **dict.fromkeys(("spki", "hash", "either", "exact", "prefix"), ours_only),
        **dict.fromkeys(("suffix", "address"), other_only),
        "both": [""] * 4,
    }


def resumed(port: int, *, tickets: bool) -> bool:
    """Whether a client of TLS 1.2 that comes back leaves out a part of the handshake, by a ticket or without one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    with dialled(port) as plain, context.wrap_socket(plain, server_hostname=HOST) as connection:
        session = connection.session
    with dialled(port) as plain, context.wrap_socket(plain, server_hostname=HOST, session=session) as connection:
        return bool(connection.session_reused) and session is not None and session.has_ticket == tickets


@pytest.mark.shows("ClientPolicy.tls", "sessionResumption.stateless", "sessionResumption.stateful", "fingerprints")
def test_clients_that_come_back_and_how_they_begin_are_known_as_the_policy_says(
    tmp_path: Path, backend: Server
) -> None:
    headers = {
        "set": [{"name": f"x-{name}", "value": f"%TLS_{name.upper()}_FINGERPRINT%"} for name in ("ja3", "ja4")],
    }
    told = {"headers": {"earlyRequestHeaders": headers}}
    edge = Edge(
        backend.server_port,
        "HTTPS",
        tls=Authority(tmp_path),
        default=told,
        ticketless={"tls": {"sessionResumption": {"stateless": False}}},
        forgetful={"tls": {"sessionResumption": {"stateful": False}}},
        neither={"tls": {"sessionResumption": {"stateless": False, "stateful": False}}},
        known={"tls": {"fingerprints": ["JA3", "JA4"]}, **told},
        newer={"tls": {"fingerprints": ["JA4"]}, **told},
    )
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge", "sectionName": "known"}
    log = {"file": {"path": str(tmp_path / "known.log")}, "text": "%TLS_JA3_FINGERPRINT% %TLS_JA4_FINGERPRINT%"}
    text = edge.text + document("TelemetryPolicy", "known", {"targetRefs": [target], "accessLogs": [log]})
    with serving(text, tmp_path):
        ports = edge.ports
        names = ("default", "ticketless", "forgetful", "neither")
        found = {name: (resumed(ports[name], tickets=True), resumed(ports[name], tickets=False)) for name in names}
        assert found == {
            "default": (True, True),
            "ticketless": (False, True),
            "forgetful": (True, False),
            "neither": (False, False),
        }

        def fingerprints(name: str) -> tuple[str | None, str | None]:
            seen = asked(ports[name], None, host=HOST)
            return seen.get("x-ja3"), seen.get("x-ja4")

        assert fingerprints("default") == ("", "")  # nothing that a client could have said instead
        ja3, ja4 = fingerprints("known")
        assert re.fullmatch("[0-9a-f]{32}", str(ja3))
        assert re.fullmatch("t13d[0-9]{4}[0-9a-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}", str(ja4))
        assert fingerprints("newer") == ("", ja4)
        wait_until(lambda: (tmp_path / "known.log").read_text() == f"{ja3} {ja4}\n")


@pytest.mark.shows("ClientPolicy.healthCheck.path")
def test_probes_are_answered_by_the_proxy_until_it_drains(tmp_path: Path, backend: Server) -> None:
    edge = Edge(backend.server_port, plain={}, probed={"healthCheck": {"path": "/healthz"}})

    def statuses() -> list[int]:
        # A probe knows no host of a route.
        return [get(port, "/healthz", host="10.0.0.1")[0] for port in edge.ports.values()]

    with serving(edge.text, tmp_path):
        admin = (tmp_path / "admin").read_text()
        assert statuses() == [404, 200]
        assert get(edge.ports["probed"], "/healthz/more")[0] == get(edge.ports["probed"], "/healthz?deep=1")[0] == 200
        assert [request["path"] for request in backend.seen] == ["/healthz/more", "/healthz?deep=1"]
        for step, wanted in (("fail", [404, 503]), ("ok", [404, 200])):
            urllib.request.urlopen(f"http://{admin}/healthcheck/{step}", data=b"", timeout=10).close()
            assert statuses() == wanted
        assert get(edge.ports["probed"], "/")[0] == 200


@pytest.mark.shows("ClientPolicy.connections", "closeDelay", "socketBufferLimit")
def test_sockets_keep_as_much_as_the_policy_says_and_one_too_many_is_closed_late(
    tmp_path: Path, backend: Server
) -> None:
    edge = Edge(
        backend.server_port,
        plain={},
        small={"connections": {"socketBufferLimit": 16_384}},
        late={"connections": {"limit": 1, "closeDelay": "400ms"}},
    )

    def kept(name: str) -> list[int]:
        """The bytes that the kernel may keep for a connection to this listener: received, and to be sent."""
        port = edge.ports[name]
        with dialled(port):
            command = ["ss", "--no-header", "-tmn", "state", "established", f"( sport = :{port} )"]
            found: list[str] = []

            def there() -> bool:
                shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[:] = re.findall(r"rb(\d+),t\d+,tb(\d+)", shown)[:1]
                return bool(found)

            wait_until(there)
        return [int(size) for size in found[0]]

    with serving(edge.text, tmp_path):
        assert kept("small") == [32_768, 32_768]  # the kernel doubles what it is told
        assert min(kept("plain")) > 32_768
        request = f"GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
        with dialled(edge.ports["late"]) as only:
            only.sendall(request)
            assert only.recv(65536).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            with dialled(edge.ports["late"]) as late:
                assert read_to_end(late) == b""
            assert time.monotonic() - began >= 0.3  # Envoy's clock may be a little ahead


@pytest.mark.shows("ClientPolicy.scheme")
def test_backends_are_told_the_scheme_of_the_client_or_their_own(tmp_path: Path, backend: Server) -> None:
    edge = Edge(
        backend.server_port,
        "HTTPS",
        tls=Authority(tmp_path),
        default={},
        preserved={"scheme": "Preserve"},
        matched={"scheme": "MatchBackend"},
    )
    # A listener of the same Envoy is the backend that can tell: HTTP/1.1 has no scheme.
    inner = free_port()
    text = edge.text.replace('"listeners": [', f'"listeners": [{{"name": "in", "port": {inner}, "protocol": "HTTP"}}, ')
    text += service("inner", inner, protocol="HTTP2")
    text += route("\n  - backendRefs: [{name: inner, port: 80}]", hosts="[outer.example.com]", name="outer")
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
    scheme = {"request": {"set": [{"name": "x-scheme", "value": "%REQ(:SCHEME)%"}]}}
    text += route(
        "\n  - backendRefs: [{name: echo, port: 80}]",
        hosts="[outer.example.com]",
        name="in",
        parent="{name: edge, sectionName: in}",
    )
    text += document("RoutePolicy", "scheme", {"targetRefs": [target, {**target, "name": "in"}], "headers": scheme})
    with serving(text, tmp_path):
        found = {name: asked(port, None, host="outer.example.com")["x-scheme"] for name, port in edge.ports.items()}
    assert found == {"default": "https", "preserved": "https", "matched": "http"}
