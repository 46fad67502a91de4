"""A real SPIRE agent in the place of ours: two Envoys with its identities, and xDS over mutual TLS with them."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.processes import Children, free_port
from tests.support.programs import RunningEnvoy, Serving, start_envoy, start_serve
from tests.support.routing import Server, backend_server
from tests.support.spire import Spire
from tests.support.traffic import Traffic
from tests.support.two_envoys import config, traffic, works

LIFE = 30
DOMAIN = "example.org"


@pytest.fixture
def backend() -> Iterator[Server]:
    with backend_server() as server:
        yield server


class SpireMesh:
    """A SPIRE, our server with a certificate of it, and the Envoys `edge` and `web`."""

    def __init__(
        self, children: Children, programs: dict[str, Path], backend: Server, *, by_files: bool = True
    ) -> None:
        """`by_files`: our server reads its certificate from files; else it asks the Workload API itself."""
        self.children, self.backend = children, backend
        self.spire = Spire(children, programs, DOMAIN, life=LIFE).start()
        self.programs = {name: self.spire.program(name) for name in ("web", "edge", "stranger")}
        for name in ("web", "edge"):
            self.spire.entry(f"/ns/default/sa/{name}", self.programs[name])
        self.files = children.folder / "fairlead"
        if by_files:
            self.server_name = "localhost"
            self.spire.entry("/fairlead/xds", self.spire.agent_program, "-dns", "localhost", life=3_600)
            self.spire.fetch(self.files)
            files = ("--xds-cert", "svid.0.pem"), ("--xds-key", "svid.0.key"), ("--xds-client-ca", "bundle.0.pem")
            flags = [word for flag, name in files for word in (flag, str(self.files / name))]
        else:
            self.server_name = self.spire.id("/fairlead/xds")
            self.spire.entry("/fairlead/xds", Path(sys.executable).resolve())
            flags = ["--xds-workload-api", str(self.spire.socket)]
        self.port, self.ingress = free_port(), free_port()
        folder = children.folder / "config"
        folder.mkdir()
        (folder / "config.yaml").write_text(config(self.port, self.ingress))
        self._flags = ["--files", str(folder), "--trust-domain", DOMAIN, *flags]
        self.serving: Serving = start_serve(children, *self._flags, secure=True)
        self.envoys = {"web": self.envoy("web"), "edge": self.envoy("edge")}
        children.wait_until(lambda: works(self.port, "once.test"), what="mutual TLS", timeout=120)

    def envoy(self, name: str, *, ready: bool = True) -> RunningEnvoy:
        flags: tuple[str, ...] = ("--agent", str(self.spire.socket), "--xds-server-name", self.server_name)
        kind = "gateway" if name == "edge" else "sidecar"
        if kind == "sidecar":
            ingress = self.ingress if name == "web" else free_port()
            ports = {"--port": self.backend.server_port, "--ingress-port": ingress, "--egress-port": free_port()}
            flags += tuple(word for flag, port in ports.items() for word in (flag, str(port)))
        return start_envoy(
            self.children,
            kind,
            name,
            *flags,
            xds=self.serving.xds,
            ready=ready,
            binary=self.programs[name],
        )

    def restart_serve(self) -> None:
        """Our server anew, at the same address."""
        old = self.serving
        old.child.stop()
        self.children.started.remove(old.child)
        self.serving = start_serve(self.children, *self._flags, xds=old.xds, api=old.api, secure=True)

    def updates(self) -> int:
        """How often both Envoys have put a secret in force."""
        return min(envoy.sum("ssl_context_update_by_sds") for envoy in self.envoys.values())

    def wait_for_rotation(self, traffic: Traffic) -> None:
        had = self.updates()
        self.children.wait_until(lambda: self.updates() > had + 1, what="SPIRE to rotate twice", timeout=180)
        requests = traffic.requests
        self.children.wait_until(lambda: traffic.requests > requests + 50, what="requests", timeout=120)


@pytest.fixture
def mesh(children: Children, spire_binaries: dict[str, Path], backend: Server) -> SpireMesh:
    return SpireMesh(children, spire_binaries, backend)


def test_envoys_with_spires_identities_speak_mutual_tls_and_its_rotation_and_restart_fail_no_request(
    mesh: SpireMesh,
) -> None:
    seen = mesh.backend.seen[-1]
    assert f"spiffe://{DOMAIN}/ns/default/sa/edge" in str(seen), seen
    assert {one["name"] for one in mesh.serving.client.get("/api/v1/proxies")["items"]} == {"web", "edge"}
    with traffic(mesh.port, "once.test") as once, traffic(mesh.port, "kept.test") as kept:
        mesh.wait_for_rotation(once)
        mesh.spire.kill_agent()
        requests = once.requests
        mesh.children.wait_until(lambda: once.requests > requests + 50, what="requests", timeout=120)
        mesh.spire.start_agent()
        mesh.wait_for_rotation(once)
    assert once.failures + kept.failures == []


def test_spire_and_we_refuse_who_is_not_the_workload(mesh: SpireMesh) -> None:
    """A program that SPIRE does not know gets nothing; the identity of one workload is good for no other proxy."""
    stranger = mesh.envoy("stranger", ready=False)
    agent = mesh.spire.agent
    assert agent is not None
    mesh.children.wait_until(
        lambda: "No identity issued" in agent.log.read_text() or "not authorized" in agent.log.read_text(),
        what="SPIRE to refuse",
    )
    assert json.loads(stranger.get("/certs")) == {"certificates": []}
    flags = ("--agent", str(mesh.spire.socket), "--xds-server-name", "localhost")
    start_envoy(
        mesh.children, "gateway", "other", *flags, xds=mesh.serving.xds, ready=False, binary=mesh.programs["web"]
    )
    words = "its service account web is none that proxies of gateway default/other run as"
    mesh.children.wait_until(lambda: words in mesh.serving.child.log.read_text(), what="our refusal")
    assert {one["name"] for one in mesh.serving.client.get("/api/v1/proxies")["items"]} == {"web", "edge"}


def test_spires_root_is_rotated_under_traffic_and_no_request_fails(mesh: SpireMesh) -> None:
    def authority(step: str, *flags: str) -> str:
        return mesh.spire.server("localauthority", "x509", step, *flags, "-output", "json")

    old = json.loads(authority("show"))["active"]["authority_id"]
    with traffic(mesh.port, "once.test") as once, traffic(mesh.port, "kept.test") as kept:
        new = json.loads(authority("prepare"))["prepared_authority"]["authority_id"]
        mesh.wait_for_rotation(once)  # by then both Envoys have its root
        mesh.spire.fetch(mesh.files)
        authority("activate", "-authorityID", new)
        mesh.wait_for_rotation(once)
        authority("taint", "-authorityID", old)
        mesh.wait_for_rotation(once)
        mesh.spire.fetch(mesh.files)
        authority("revoke", "-authorityID", old)
        mesh.wait_for_rotation(once)
        mesh.spire.fetch(mesh.files)
        assert (mesh.files / "bundle.0.pem").read_text().count("BEGIN CERTIFICATE") == 1
        mesh.restart_serve()
        names = {"web", "edge"}
        mesh.children.wait_until(
            lambda: {one["name"] for one in mesh.serving.client.get("/api/v1/proxies")["items"]} == names,
            what="both Envoys to come back over the new root",
        )
        requests = once.requests
        mesh.children.wait_until(lambda: once.requests > requests + 50, what="requests", timeout=120)
    assert once.failures + kept.failures == []


def test_our_server_follows_the_workload_api_and_is_known_by_its_spiffe_id(
    children: Children, spire_binaries: dict[str, Path], backend: Server
) -> None:
    mesh = SpireMesh(children, spire_binaries, backend, by_files=False)
    names = {"web", "edge"}

    def connected() -> bool:
        return {one["name"] for one in mesh.serving.client.get("/api/v1/proxies")["items"]} == names

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", mesh.serving.xds))

    assert connected()
    first = shown()
    children.wait_until(lambda: shown() != first, what="the server to show another certificate", timeout=120)
    mesh.spire.kill_agent()
    log = mesh.serving.child.log
    children.wait_until(lambda: "what is in force stands" in log.read_text(), what="the outage to be told")
    mesh.spire.start_agent()
    second = shown()
    children.wait_until(lambda: shown() != second, what="the server to be renewed after the outage", timeout=120)
    mesh.restart_serve()
    children.wait_until(connected, what="both Envoys to come back", timeout=120)
    assert "PRIVATE KEY" not in log.read_text()
