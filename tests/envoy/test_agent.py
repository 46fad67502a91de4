"""An agent keeps the identity of the workload beside an Envoy, and that Envoy reaches its control plane by it alone."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from fairlead.identities.agent_jwt import JwtBundlesResponse, JwtSvidRequest, JwtSvidResponse
from fairlead.identities.issuance import SERVICE, IssueRequest, IssueResponse
from fairlead.processes import Children, free_port
from mesh.spiffe import TrustDomain
from sds.bundle import read_jwks
from sds.jwt_svid import validate
from sds.keys import new_key, request_for
from tests.support.agents import Mesh
from tests.support.programs import ask, start_backend, start_envoy
from tests.support.xds_client import ADS, node
from xds.schema.type_urls import TYPE_SECRET
from xds.schema.types import DeltaDiscoveryRequest

pytestmark = [pytest.mark.envoy, pytest.mark.slow]


def config(port: int, backend: int) -> str:
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {
                "gatewayClassName": "fairlead",
                "listeners": [{"name": "http", "port": port, "protocol": "HTTP"}],
                "addresses": [{"value": "127.0.0.1"}],
            },
        },
        {
            "apiVersion": "fairlead.dev/v1alpha1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {
                "ports": [{"name": "http", "port": 80}],
                "endpoints": [{"address": "127.0.0.1", "ports": {"http": backend}}],
            },
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "web"},
            "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
        },
    ]
    return "\n---\n".join(map(json.dumps, documents))


@pytest.mark.faults
def test_an_envoy_with_an_agent_lives_on_renewed_certificates_through_an_outage(children: Children) -> None:
    port = free_port()
    mesh = Mesh(children, config(port, start_backend(children, "web")), life=30)
    agent, socket = mesh.agent("edge")
    children.wait_until(lambda: mesh.has_identity(agent), what="the agent's certificate")
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    envoy = start_envoy(children, "gateway", "edge", "--agent", str(socket), xds=mesh.xds)
    children.wait_until(lambda: ask(port, "web").status == 200, what="the route")
    [proxy] = mesh.serving.client.get("/api/v1/proxies")["items"]
    assert proxy["name"] == "edge"

    def serials() -> set[str]:
        return set(re.findall(r'"serial_number": "([0-9a-f]+)"', envoy.get("/certs")))

    first = serials()
    children.wait_until(
        lambda: len(agent.log.read_text().split("certificate of spiffe")) > 2, what="a renewal", timeout=60
    )
    children.wait_until(lambda: not (serials() & first - _roots(envoy)), what="Envoy to use another certificate")

    mesh.serving.child.signal_group(signal.SIGKILL)
    mesh.serving.child.process.wait(20)
    children.started.remove(mesh.serving.child)
    assert ask(port, "web").status == 200
    mesh.serve("again")
    children.wait_until(lambda: len(mesh.serving.client.get("/api/v1/proxies")["items"]) == 1, what="Envoy to return")
    mesh.file.write_text(mesh.file.read_text().replace('"rules": [{', '"rules": [{"name": "new", '))
    children.wait_until(lambda: ask(port, "web").status == 200, what="the route")


def _roots(envoy: Any) -> set[str]:
    """The serials of the authorities, which stay."""
    found: set[str] = set()
    for certificate in json.loads(envoy.get("/certs"))["certificates"]:
        found |= {one["serial_number"] for one in certificate.get("ca_cert", ())}
    return found


def test_a_join_token_is_good_once_and_an_identity_for_its_own_proxy_alone(children: Children) -> None:
    port = free_port()
    mesh = Mesh(children, config(port, start_backend(children, "web")))
    token = mesh.join_token("other")
    agent, socket = mesh.agent("other", token=token)
    children.wait_until(lambda: mesh.has_identity(agent), what="the agent's certificate")
    second, _ = mesh.agent("other", token=token, name="thief")
    children.wait_until(lambda: "no new certificate" in second.log.read_text(), what="the second use to be refused")
    assert "spiffe://" not in second.log.read_text()
    assert "refused: the control plane's log says why" in second.log.read_text()
    assert "the join token is unknown, was used, or has ended" in mesh.serving.child.log.read_text()
    start_envoy(children, "gateway", "edge", "--agent", str(socket), xds=mesh.xds, ready=False)
    words = "its service account other is none that proxies of gateway default/edge run as"
    children.wait_until(lambda: words in mesh.serving.child.log.read_text(), what="the proxy to be refused")
    assert mesh.serving.client.get("/api/v1/proxies")["items"] == []
    assert token not in mesh.serving.child.log.read_text() + agent.log.read_text() + second.log.read_text()
    assert "PRIVATE KEY" not in mesh.serving.child.log.read_text() + agent.log.read_text()


def test_a_workload_gets_jwt_svids_of_its_own_at_its_agents_socket_and_keys_to_judge_those_of_others(
    children: Children,
) -> None:
    mesh = Mesh(children, "")
    agent, path = mesh.agent("web")
    children.wait_until(lambda: mesh.has_identity(agent), what="the agent's certificate")
    header = (("workload.spiffe.io", "true"),)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        asked = JwtSvidRequest(audience=["orders"]).SerializeToString()
        raw = channel.unary_unary("/SpiffeWorkloadAPI/FetchJWTSVID")(asked, metadata=header, timeout=20)
        [svid] = JwtSvidResponse.FromString(raw).svids
        following = channel.unary_stream("/SpiffeWorkloadAPI/FetchJWTBundles")(b"", metadata=header, timeout=20)
        [(name, keys)] = JwtBundlesResponse.FromString(next(following)).bundles.items()
        following.cancel()
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            channel.unary_unary("/SpiffeWorkloadAPI/FetchJWTSVID")(asked, timeout=20)
    domain = TrustDomain("cluster.local")
    assert name == "spiffe://cluster.local"
    now = dt.datetime.now(dt.UTC)
    said = validate(svid.svid, {domain: read_jwks(keys, domain)}, audience="orders", now=now)
    assert str(said.identity) == svid.spiffe_id == "spiffe://cluster.local/ns/default/sa/web"
    assert svid.svid not in agent.log.read_text() + mesh.serving.child.log.read_text()


@pytest.mark.parametrize("keeps", [True, False])
def test_an_agent_that_was_killed_comes_back_without_a_token_where_it_keeps_its_identity_in_memory(
    children: Children, memory: Path, keeps: bool
) -> None:
    mesh = Mesh(children, "")
    kept = memory / "identity"
    arguments = ["--keep", str(kept)] if keeps else []
    agent, _ = mesh.agent("web", arguments=arguments)
    children.wait_until(lambda: mesh.has_identity(agent), what="the agent's certificate")
    assert kept.exists() == keeps
    agent.signal_group(signal.SIGKILL)
    agent.process.wait(60)
    children.started.remove(agent)

    spent = str(children.folder / "agent-web.token")
    again, path = mesh.agent("web", name="again", token_file=spent, arguments=arguments)
    if not keeps:
        refused = lambda: "refused: the control plane's log says why" in again.log.read_text()  # noqa: E731
        children.wait_until(refused, what="the spent token to be refused")
        assert not mesh.has_identity(again)
        return
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    renewed = lambda: again.log.read_text().count("certificate of spiffe") == 2  # noqa: E731
    children.wait_until(renewed, what="the resumed certificate to be followed by a new one")
    asked = JwtSvidRequest(audience=["orders"]).SerializeToString()
    with grpc.insecure_channel(f"unix:{path}") as channel:
        fetch = channel.unary_unary("/SpiffeWorkloadAPI/FetchJWTSVID")
        raw = fetch(asked, metadata=(("workload.spiffe.io", "true"),), timeout=20)
    assert JwtSvidResponse.FromString(raw).svids[0].spiffe_id == "spiffe://cluster.local/ns/default/sa/web"
    assert "PRIVATE KEY" not in again.log.read_text()


def test_a_stream_ends_before_the_certificate_does_that_proved_it_and_none_is_opened_with_it_then(
    children: Children,
) -> None:
    mesh = Mesh(children, config(free_port(), free_port()), life=8)
    channel, ends = _channel_of_its_own(mesh)
    with channel:
        assert len(_until_it_ends(channel)) == 1
        assert dt.datetime.now(dt.UTC) < ends
        children.wait_until(lambda: dt.datetime.now(dt.UTC) > ends, what="the certificate to end")
        assert _until_it_ends(channel) == []


def test_a_stream_ends_with_the_root_that_was_revoked_and_none_is_opened_over_its_connection(
    children: Children,
) -> None:
    # Connections are kept for minutes here, so that it is not for a new one that nothing is opened.
    mesh = Mesh(children, config(free_port(), free_port()), arguments=["--ca-leaf-lifetime-min", "3600"])
    channel, _ = _channel_of_its_own(mesh)
    api = mesh.serving.client

    def step(what: str) -> Any:
        return api.request("POST", f"/api/v1/authority/{what}", body={}).json()

    with channel, ThreadPoolExecutor(1) as pool:
        heard = pool.submit(_until_it_ends, channel)
        children.wait_until(lambda: api.get("/api/v1/proxies")["items"], what="the stream")
        [old] = [one["id"] for one in api.get("/api/v1/authority")["authorities"]]
        new = step("prepare")["id"]
        step(f"{new}/activate?override=true")
        assert api.get("/api/v1/proxies")["items"], "its root is still trusted"
        step(f"{old}/revoke?override=true")
        assert len(heard.result(timeout=60)) >= 1
        assert _until_it_ends(channel) == []
    children.wait_until(
        lambda: "is trusted no more" in mesh.serving.child.log.read_text(), what="the log to say why it was refused"
    )


def _channel_of_its_own(mesh: Mesh) -> tuple[grpc.Channel, dt.datetime]:
    """To the xDS server, with a certificate as a Gateway's proxy that came of a join token, and when that ends."""
    key, roots = new_key(), mesh.roots().read_bytes()
    with grpc.secure_channel(f"127.0.0.1:{mesh.join}", grpc.ssl_channel_credentials(roots)) as joining:
        raw = joining.unary_unary(f"/{SERVICE}/Issue")(
            IssueRequest(csr=request_for(key, None)).SerializeToString(),
            metadata=(("authorization", f"Bearer {mesh.join_token('edge')}"),),
            timeout=20,
        )
    issued = IssueResponse.FromString(raw)
    credentials = grpc.ssl_channel_credentials(roots, key.pem().pem, issued.chain)
    return grpc.secure_channel(f"127.0.0.1:{mesh.xds}", credentials), issued.not_after.ToDatetime(dt.UTC)


def _until_it_ends(channel: grpc.Channel) -> list[bytes]:
    """What a gateway hears that asks for roots, until the server ends its stream or opens none."""
    asked = DeltaDiscoveryRequest(node=node("gateway~default~edge~1"), type_url=TYPE_SECRET)
    asked.resource_names_subscribe.append("ROOTCA")
    enough = threading.Event()

    def requests() -> Iterator[bytes]:
        yield asked.SerializeToString()
        enough.wait(60)

    heard: list[bytes] = []
    call = channel.stream_stream(f"{ADS}DeltaAggregatedResources")(requests(), timeout=60)
    with contextlib.suppress(grpc.RpcError):
        heard.extend(call)
    enough.set()
    assert call.code() != grpc.StatusCode.DEADLINE_EXCEEDED, "the stream went on"
    return heard


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on a memory file system."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


# How PKCS #8 and SEC 1 begin for a P-256 key, which is what an agent makes.
_DER = (bytes.fromhex("308187020100301306072a8648ce3d0201"), bytes.fromhex("30770201010420"))


@pytest.mark.faults
def test_envoy_reaches_its_control_plane_by_renewed_certificates_of_the_socket_and_no_key_is_in_a_file(
    children: Children,
) -> None:
    port = free_port()
    mesh = Mesh(children, config(port, start_backend(children, "web")), life=60)
    agent, socket = mesh.agent("edge")
    envoy = start_envoy(children, "gateway", "edge", "--agent", str(socket), xds=mesh.xds)
    children.wait_until(lambda: ask(port, "web").status == 200, what="the route")
    [first] = {one["serial_number"] for one in _leaves(envoy)}
    children.wait_until(lambda: first not in str(_leaves(envoy)), what="Envoy to use another certificate", timeout=60)
    ends = agent.log.read_text().split("until ")[1][:25]
    children.wait_until(
        lambda: dt.datetime.now(dt.UTC) > dt.datetime.fromisoformat(ends),
        what="the first certificate to end",
        timeout=90,
    )
    # Its stream ended before that certificate, and the next one came over a new connection, with another.
    children.wait_until(lambda: len(mesh.serving.client.get("/api/v1/proxies")["items"]) == 1, what="Envoy to be there")
    assert "has ended since this connection was made" not in mesh.serving.child.log.read_text()
    mesh.serving.child.stop()
    children.started.remove(mesh.serving.child)
    mesh.serve("again")
    # Whoever connects now shows what it has now: the first certificate would be refused.
    children.wait_until(lambda: len(mesh.serving.client.get("/api/v1/proxies")["items"]) == 1, what="Envoy to return")
    for running in (agent, envoy.child):
        written = [path for path in _open_files(running.process.pid) if path.suffix != ".log"]
        assert written == [], "a file is open for writing that is no log"
    for path in children.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"PRIVATE KEY" not in content, path
        assert not any(begin in content for begin in _DER), path
    assert "PRIVATE KEY" not in envoy.get("/config_dump?include_eds")


def _leaves(envoy: Any) -> list[Any]:
    """The certificates that Envoy shows."""
    return [shown for one in json.loads(envoy.get("/certs"))["certificates"] for shown in one.get("cert_chain", ())]


def _open_files(pid: int) -> list[Path]:
    """The regular files that a process has open for writing, on whatever file system."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            flags = int(Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().split("flags:")[1].split()[0], 8)
            if entry.is_file() and flags & os.O_ACCMODE != os.O_RDONLY:
                found.append(entry.resolve())
    return found
