"""Mutual TLS between real Envoys: every mode, every kind of client, and modes that change under traffic."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from fairlead.addresses import Address
from fairlead.bootstraps.bootstrap import ProxyIdentity, envoy_bootstrap
from fairlead.processes import Children, free_port
from mesh.model import Upstream
from mesh.spiffe import TrustDomain, workload
from sds.builtin import in_memory
from tests.support.certificates import Authority
from tests.support.fields import note
from tests.support.programs import ask, start_serve
from tests.support.routing import Server, backend_server
from tests.support.sds_server import Issued, sds_server
from tests.support.static_bootstrap import agent_cluster
from tests.support.traffic import Traffic

pytestmark = [pytest.mark.envoy]

WAIT = 0.3
BANNER = b"220 speaks first\n"
MODES = ("STRICT", "PERMISSIVE", "DISABLE")
DOMAIN = TrustDomain("cluster.local")


class Mesh:
    """A control plane, three workloads behind Envoys with identities, and a gateway and a sidecar as their clients."""

    def __init__(self, children: Children, web: Server, tcp: int, echo: int) -> None:
        self.children, self.web = children, web
        self.backends = {"web": web.server_port, "tcp": tcp, "echo": echo}
        self.ingress = {name: free_port() for name in self.backends}
        self.http, self.tcp, self.egress = free_port(), free_port(), free_port()
        self.authority = in_memory(DOMAIN)
        # Believed by all, as an authority that signs what it should not: what its certificates open is up to Envoy.
        self.careless = Authority(children.folder, "careless")
        self.folder = children.folder / "config"
        self.folder.mkdir()
        (self.folder / "services.yaml").write_text(self._services())
        self.set_mode("PERMISSIVE")
        wait = ("--first-bytes-wait", str(int(WAIT * 1000)))
        self.serving = start_serve(children, "--files", str(self.folder), *wait)
        self.stack = contextlib.ExitStack()
        for name, port in self.backends.items():
            self._envoy(ProxyIdentity(kind="sidecar", name=name, port=port, ingress_port=self.ingress[name]))
        self._envoy(ProxyIdentity(kind="gateway", name="edge"))
        self.upstream = free_port()
        upstreams = (Upstream(self.upstream, "default", "tcp", 80),)
        self._envoy(ProxyIdentity(kind="sidecar", name="client", egress_port=self.egress, upstreams=upstreams))
        self.chain, self.key, _ = Issued(self.authority, workload(DOMAIN, "default", "strict")).write(
            children.folder / "strict"
        )

    def set_mode(self, mode: str) -> None:
        """Set it for the namespace."""
        self.set_policies(modes={"mtls": {"mode": mode}})

    def set_policies(self, **specs: dict[str, Any]) -> None:
        """All that there are, by name."""
        new, documents = self.folder / "mode.new", []
        for name, spec in specs.items():
            documents.append(document("PeerAuthentication", name, spec))
            note(documents[-1])
        new.write_text("\n---\n".join(map(json.dumps, documents)) + "\n")
        new.replace(self.folder / "mode.yaml")

    def _services(self) -> str:
        protocols = {"web": "HTTP", "tcp": "TCP", "echo": "GRPC"}
        documents = [
            document(
                "Service",
                name,
                {
                    "ports": [{"name": "p", "port": 80, "protocol": protocol}],
                    "endpoints": [
                        {
                            "address": "127.0.0.1",
                            "ports": {"p": self.ingress[name]},
                            "meshTls": True,
                            "serviceAccount": name,
                            "labels": {"app": name, "tier": "back"},
                        }
                    ],
                },
            )
            for name, protocol in protocols.items()
        ]
        listeners = [
            {"name": "http", "port": self.http, "protocol": "HTTP"},
            {"name": "tcp", "port": self.tcp, "protocol": "TCP"},
        ]
        spec = {"gatewayClassName": "fairlead", "listeners": listeners, "addresses": [{"value": "127.0.0.1"}]}
        documents.append(document("Gateway", "edge", spec))
        for kind, name, section in (
            ("HTTPRoute", "web", "http"),
            ("HTTPRoute", "echo", "http"),
            ("TCPRoute", "tcp", "tcp"),
        ):
            names = {"hostnames": [f"{name}.test"]} if kind == "HTTPRoute" else {}
            parents = [{"name": "edge", "sectionName": section}]
            documents.append(
                document(
                    kind,
                    name,
                    {"parentRefs": parents, **names, "rules": [{"backendRefs": [{"name": name, "port": 80}]}]},
                )
            )
        return "\n---\n".join(map(json.dumps, documents))

    def _envoy(self, proxy: ProxyIdentity) -> None:
        issued = Issued(self.authority, workload(DOMAIN, "default", proxy.name))
        issued.roots += self.careless.ca.read_bytes()
        path = self.children.folder / f"{proxy.name}.sock"
        self.stack.enter_context(sds_server(path, issued))
        bootstrap = envoy_bootstrap(proxy, xds=Address("127.0.0.1", self.serving.xds))
        bootstrap["node"]["metadata"]["fairlead"]["agent"] = True
        bootstrap["static_resources"]["clusters"].append(agent_cluster(str(path)))
        file = self.children.folder / f"{proxy.name}.json"
        file.write_text(json.dumps(bootstrap))
        binary = Path(__file__).parents[2] / ".venv/bin/envoy"
        self.children.start(proxy.name, [str(binary), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id"])

    def strict(self, port: int, *alpn: str) -> ssl.SSLSocket:
        """A connection with a certificate of the mesh, as a client makes that insists on mutual TLS."""
        context = client_context(self.chain, self.key, *alpn)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10))


def client_context(chain: Path, key: Path, *alpn: str) -> ssl.SSLContext:
    """How a client that shows a certificate and verifies nothing speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(chain, key)
    context.set_alpn_protocols(list(alpn))
    return context


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    ours = kind in ("Service", "PeerAuthentication")
    api = "fairlead.dev/v1alpha1" if ours else "gateway.networking.k8s.io/v1"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}


@contextlib.contextmanager
def banner_server() -> Iterator[int]:
    """A server that speaks first, then sends every byte back."""
    listening = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(BANNER)
            while data := connection.recv(4096):
                connection.sendall(data)

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.close()


@contextlib.contextmanager
def grpc_server() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(4))
    who = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"echo")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Who": who}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    with backend_server() as web, banner_server() as tcp, grpc_server() as echo, Children(folder) as children:
        made = Mesh(children, web, tcp, echo)
        with made.stack:
            yield made


def http_by(port: int, host: str) -> bool:
    try:
        return ask(port, host).status == 200
    except (OSError, ValueError):
        return False


def grpc_by(port: int) -> bool:
    options = (("grpc.default_authority", "echo.test"), ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        try:
            return bytes(channel.unary_unary("/test.Echo/Who")(b"", timeout=10)) == b"echo"
        except grpc.RpcError:
            return False


def tcp_by(connection: socket.socket, *, server_first: bool) -> bool:
    """Whether a conversation succeeds; the client says something before it has heard anything, or only then."""
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        stream = connection.makefile("rb")
        if not server_first:
            connection.sendall(b"hello\n")
        if stream.readline() != BANNER:
            return False
        if server_first:
            connection.sendall(b"hello\n")
        return stream.readline() == b"hello\n"
    return False


def plain(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def tcp_plain(port: int, *, server_first: bool) -> bool:
    with contextlib.suppress(OSError):
        return tcp_by(plain(port), server_first=server_first)
    return False


def http_strict(mesh: Mesh) -> bool:
    with contextlib.suppress(OSError), mesh.strict(mesh.ingress["web"], "fairlead") as connection:
        return http_over(connection)
    return False


def http_over(connection: ssl.SSLSocket) -> bool:
    connection.sendall(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")
    return connection.makefile("rb").readline().startswith(b"HTTP/1.1 200")


def h2_strict(mesh: Mesh) -> bool:
    with contextlib.suppress(OSError), mesh.strict(mesh.ingress["echo"], "fairlead", "h2") as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        return connection.selected_alpn_protocol() == "h2" and connection.recv(9)[3:4] == b"\x04"
    return False


def tcp_strict(mesh: Mesh, *, server_first: bool) -> bool:
    with contextlib.suppress(OSError):
        return tcp_by(mesh.strict(mesh.ingress["tcp"], "fairlead"), server_first=server_first)
    return False


def outcomes(mesh: Mesh) -> dict[str, bool]:
    """Who gets through, by kind of client and protocol."""
    found: dict[str, bool] = {}
    for client, web, rpc in (
        ("none", (mesh.ingress["web"], "web"), mesh.ingress["echo"]),
        ("permissive", (mesh.http, "web.test"), mesh.http),
    ):
        found[f"{client} http/1.1"] = http_by(*web)
        found[f"{client} grpc"] = grpc_by(rpc)
        at = mesh.ingress["tcp"] if client == "none" else mesh.tcp
        found[f"{client} tcp"] = tcp_plain(at, server_first=False)
        found[f"{client} server-first"] = tcp_plain(at, server_first=True)
    found["permissive sidecar http/1.1"] = http_by(mesh.egress, "web")
    found["permissive sidecar tcp"] = tcp_plain(mesh.upstream, server_first=False)
    found["permissive sidecar server-first"] = tcp_plain(mesh.upstream, server_first=True)
    found["strict http/1.1"], found["strict h2"] = http_strict(mesh), h2_strict(mesh)
    found["strict tcp"] = tcp_strict(mesh, server_first=False)
    found["strict server-first"] = tcp_strict(mesh, server_first=True)
    return found


def expected(mode: str) -> dict[str, bool]:
    plain_too, tls_tcp = mode != "STRICT", mode != "DISABLE"
    each = ("http/1.1", "grpc", "tcp", "server-first")
    return {
        **{f"none {protocol}": plain_too for protocol in each},
        **{f"permissive {protocol}": True for protocol in each},
        **{f"permissive sidecar {protocol}": True for protocol in ("http/1.1", "tcp", "server-first")},
        "strict http/1.1": True,
        "strict h2": True,
        "strict tcp": tls_tcp,
        "strict server-first": tls_tcp,
    }


@pytest.mark.shows("PeerAuthentication.mtls", "mode")
@pytest.mark.parametrize("mode", MODES)
def test_who_gets_through_in_each_mode(mesh: Mesh, mode: str) -> None:
    mesh.set_mode(mode)
    deadline = time.monotonic() + 30
    while (found := outcomes(mesh)) != expected(mode):
        assert time.monotonic() < deadline, {
            name: works for name, works in found.items() if works != expected(mode)[name]
        }


@pytest.mark.shows("PeerAuthentication.selector", "matchLabels")
@pytest.mark.shows("PeerAuthentication.selector.matchExpressions", "key", "operator", "values")
@pytest.mark.shows("PeerAuthentication.portLevelMtls", "mode")
def test_workloads_and_their_ports_have_modes_of_their_own(mesh: Mesh) -> None:
    def plain() -> tuple[bool, bool, bool]:
        web, echo = http_by(mesh.ingress["web"], "web"), grpc_by(mesh.ingress["echo"])
        return web, echo, tcp_plain(mesh.ingress["tcp"], server_first=False)

    strict, chosen = {"mtls": {"mode": "STRICT"}}, {"matchLabels": {"app": "web"}}
    expressions = [{"key": "app", "operator": "In", "values": ["echo", "other"]}, {"key": "tier", "operator": "Exists"}]
    ports = {str(mesh.ingress["echo"]): {"mode": "PERMISSIVE"}}
    mesh.set_policies(
        modes=strict,
        web={"selector": chosen, "mtls": {"mode": "PERMISSIVE"}},
        echo={**strict, "selector": {"matchExpressions": expressions}, "portLevelMtls": ports},
    )
    mesh.children.wait_until(lambda: plain() == (True, True, False), what="two of them in plaintext", timeout=60)
    mesh.set_policies(modes=strict, web={"selector": {"matchLabels": {"app": "nobody"}}, "mtls": {"mode": "DISABLE"}})
    mesh.children.wait_until(lambda: plain() == (False, False, False), what="nobody in plaintext", timeout=60)


def sees(mesh: Mesh, port: int, host: str, forged: str = "") -> str:
    """The client's identity as the workload is told."""
    ask(port, host, **({"x_forwarded_client_cert": forged} if forged else {}))
    return str(mesh.web.seen[-1])


def upgraded(mesh: Mesh) -> None:
    """PERMISSIVE, with clients that speak mutual TLS: connections that a mode let in before stay as they are, and only
    STRICT ends those in plaintext.
    """
    mesh.children.wait_until(lambda: http_by(mesh.http, "web.test"), what="the gateway")
    mesh.set_mode("STRICT")
    mesh.children.wait_until(lambda: not http_by(mesh.ingress["web"], "web"), what="STRICT")
    mesh.children.wait_until(lambda: "URI=" in sees(mesh, mesh.http, "web.test"), what="mutual TLS")
    mesh.set_mode("PERMISSIVE")
    mesh.children.wait_until(lambda: http_by(mesh.ingress["web"], "web"), what="plaintext")


def test_the_workload_is_told_who_calls_and_nobody_can_pretend(mesh: Mesh) -> None:
    """As in CVE-2020-8843, who the caller is was in a header that the caller could send."""
    upgraded(mesh)
    edge = "spiffe://cluster.local/ns/default/sa/edge"
    mesh.children.wait_until(lambda: f"URI={edge}" in sees(mesh, mesh.http, "web.test"), what="mutual TLS")
    forged = "URI=spiffe://cluster.local/ns/default/sa/admin"
    assert "sa/admin" not in sees(mesh, mesh.http, "web.test", forged)
    assert "sa/admin" not in sees(mesh, mesh.ingress["web"], "web", forged)
    assert "spiffe" not in sees(mesh, mesh.ingress["web"], "web")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_cve_2022_21654_no_session_is_resumed_past_a_certificate_that_was_taken_back(
    mesh: Mesh, version: ssl.TLSVersion
) -> None:
    mesh.set_mode("STRICT")
    mesh.children.wait_until(lambda: http_strict(mesh), what="mutual TLS")
    context = client_context(mesh.chain, mesh.key, "fairlead")
    context.minimum_version = context.maximum_version = version
    to_web = ("127.0.0.1", mesh.ingress["web"])
    with context.wrap_socket(socket.create_connection(to_web, timeout=10)) as first:
        assert http_over(first)
        session = first.session
        assert session is None or not session.has_ticket
    with context.wrap_socket(socket.create_connection(to_web, timeout=10), session=session) as second:
        assert http_over(second)
        assert not second.session_reused


ADMIN = "spiffe://cluster.local/ns/default/sa/admin"


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        pytest.param(x509.UniformResourceIdentifier(ADMIN), True, id="its identity"),
        pytest.param(x509.DNSName(ADMIN), False, id="a DNS name"),
        pytest.param(
            x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x0c\x2a" + ADMIN.encode()), False, id="another"
        ),
        pytest.param(x509.UniformResourceIdentifier(ADMIN.replace(".local", ".local.evil.org")), False, id="longer"),
        pytest.param(x509.UniformResourceIdentifier("x-" + ADMIN), False, id="within"),
        pytest.param(x509.UniformResourceIdentifier(ADMIN.replace(".local", ".local\0")), False, id="NUL"),
    ],
)
def test_cve_2022_21656_a_name_of_another_kind_than_a_uri_is_no_identity(
    mesh: Mesh, name: x509.GeneralName, passes: bool
) -> None:
    """CVE-2025-66220, CVE-2026-47778, CVE-2022-21656: one kind of name was taken for another, a part for the whole."""
    mesh.set_mode("STRICT")
    mesh.children.wait_until(lambda: http_strict(mesh), what="mutual TLS")
    pair = mesh.careless.odd("odd", name)
    context = client_context(pair.cert, pair.key, "fairlead")
    found = False
    with (
        contextlib.suppress(OSError),
        context.wrap_socket(socket.create_connection(("127.0.0.1", mesh.ingress["web"]), timeout=10)) as connection,
    ):
        found = http_over(connection)
    assert found is passes


def test_only_plaintext_that_waits_for_the_server_waits_and_only_as_long_as_set(mesh: Mesh) -> None:
    def seconds(port: int) -> float:
        begin = time.monotonic()
        works = tcp_plain(port, server_first=True)
        return time.monotonic() - begin if works else math.inf

    mesh.set_mode("PERMISSIVE")
    mesh.children.wait_until(lambda: WAIT <= seconds(mesh.ingress["tcp"]) < math.inf, what="PERMISSIVE")
    mesh.children.wait_until(lambda: seconds(mesh.tcp) < WAIT, what="mutual TLS not to wait")
    mesh.children.wait_until(lambda: seconds(mesh.upstream) < WAIT, what="a sidecar's mutual TLS not to wait")
    mesh.set_mode("DISABLE")
    mesh.children.wait_until(lambda: seconds(mesh.ingress["tcp"]) < WAIT, what="DISABLE not to wait")


@contextlib.contextmanager
def background(port: int, host: str) -> Iterator[Traffic]:
    """Requests without end over a connection that is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def one() -> str:
        try:
            connection.request("GET", "/", headers={"Host": host})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return repr(error)
        return "" if response.status == 200 else f"{response.status} {body!r}"

    with contextlib.closing(connection), Traffic(one, pause=0.002) as traffic:
        yield traffic


def test_no_request_fails_while_modes_change(mesh: Mesh) -> None:
    upgraded(mesh)
    with background(mesh.http, "web.test") as through_gateway, background(mesh.egress, "web") as through_sidecar:
        mesh.set_mode("STRICT")
        mesh.children.wait_until(lambda: not http_by(mesh.ingress["web"], "web"), what="STRICT")
        mesh.set_mode("PERMISSIVE")
        mesh.children.wait_until(lambda: http_by(mesh.ingress["web"], "web"), what="PERMISSIVE")
        mesh.set_mode("DISABLE")
        mesh.children.wait_until(lambda: not tcp_strict(mesh, server_first=False), what="DISABLE")
        mesh.set_mode("STRICT")
        mesh.children.wait_until(lambda: not http_by(mesh.ingress["web"], "web"), what="STRICT again")
        both = (through_gateway, through_sidecar)
        mesh.children.wait_until(lambda: min(each.requests for each in both) > 20, what="enough requests")
    assert through_gateway.failures == []
    assert through_sidecar.failures == []
