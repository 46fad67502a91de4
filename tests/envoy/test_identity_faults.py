"""Mutual TLS under traffic while something about identities goes wrong: clocks, the control plane, its authority.

Two Envoys, a gateway and the sidecar of `web`, in mode STRICT. Each request on `once.test` needs a handshake of its
own; those on `kept.test` share a connection as long as it lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import http.client
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from fairlead.addresses import Address
from fairlead.bootstraps.bootstrap import ProxyIdentity, envoy_bootstrap
from fairlead.identities.agent import DEFAULT, Secrets
from fairlead.processes import Children, free_port
from mesh.certificates import KeyPair
from mesh.spiffe import TrustDomain, workload
from sds.builtin import BuiltinAuthority, in_memory
from sds.keys import new_key
from sds.lifetimes import utc_now
from tests.support.programs import FAIRLEAD, ask, start_serve
from tests.support.routing import Server
from tests.support.static_bootstrap import agent_cluster
from tests.support.two_envoys import Agents, config, pass_time, request, traffic, works
from xds.server.serve import XdsServer
from xds.translate.names import ROOTCA
from xds.translate.root_certificates import root_secret
from xds.translate.secret import certificate_secret

pytestmark = [pytest.mark.envoy, pytest.mark.faults, pytest.mark.timeout(600)]

DOMAIN = TrustDomain("cluster.local")
RENEWING = 120
"""Seconds."""


# -- an authority whose clock is off ---------------------------------------------------------------------------------


class LiveSecrets:
    """What an agent serves beside an Envoy, from a thread with a loop of its own; `put` changes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._server.stop(0.1))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def put(self, pair: KeyPair, roots: bytes) -> None:
        """Have Envoy use another certificate from now on."""
        secrets = {DEFAULT: certificate_secret(DEFAULT, pair), ROOTCA: root_secret(ROOTCA, roots)}
        self._do(self._put(secrets))

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> None:
        self._secrets = Secrets()
        self._server = XdsServer(self._secrets.hub, f"unix:{self._path}")
        await self._server.start()

    async def _put(self, secrets: dict[str, Any]) -> None:
        self._secrets.put(secrets)
        self._secrets.hub.open()


class Clocks:
    """Both Envoys, whose certificates come from an authority with a clock of its own: `ahead` by so much."""

    def __init__(self, children: Children, backend: Server, stack: contextlib.ExitStack) -> None:
        self.children = children
        self.ahead = dt.timedelta()
        self.authority: BuiltinAuthority = in_memory(DOMAIN, clock=lambda: utc_now() + self.ahead)
        self.port, self.ingress = free_port(), free_port()
        folder = children.folder / "config"
        folder.mkdir()
        (folder / "config.yaml").write_text(config(self.port, self.ingress))
        self.serving = start_serve(children, "--files", str(folder))
        self.secrets: dict[str, LiveSecrets] = {}
        self.admin: dict[str, int] = {}
        proxies = (
            ProxyIdentity(kind="sidecar", name="web", port=backend.server_port, ingress_port=self.ingress),
            ProxyIdentity(kind="gateway", name="edge"),
        )
        for proxy in proxies:
            self._start(proxy, stack)
        children.wait_until(lambda: self._listens() and works(self.port, "kept.test"), what="mutual TLS", timeout=60)

    def _listens(self) -> bool:
        try:
            ask(self.port, "kept.test")
        except OSError:
            return False
        return True

    def _start(self, proxy: ProxyIdentity, stack: contextlib.ExitStack) -> None:
        path = self.children.folder / f"{proxy.name}.sock"
        self.secrets[proxy.name] = stack.enter_context(LiveSecrets(path))
        self.renew(proxy.name)
        bootstrap = envoy_bootstrap(proxy, xds=Address("127.0.0.1", self.serving.xds))
        bootstrap["node"]["metadata"]["fairlead"]["agent"] = True
        bootstrap["static_resources"]["clusters"].append(agent_cluster(str(path)))
        admin = free_port()
        bootstrap["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}}
        self.admin[proxy.name] = admin
        file = self.children.folder / f"{proxy.name}.json"
        file.write_text(json.dumps(bootstrap))
        binary = Path(__file__).parents[2] / ".venv/bin/envoy"
        self.children.start(proxy.name, [str(binary), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id"])

    def renew(self, name: str) -> None:
        """A new certificate for a workload, as the authority's clock has it."""
        key = new_key()
        issued = asyncio.run(self.authority.issue(key.public_key, workload(DOMAIN, "default", name)))
        self.secrets[name].put(KeyPair(issued.chain, key.pem()), self.authority.bundle().pem())

    def stat(self, name: str, what: str) -> int:
        """The sum of an Envoy's counters whose names end so."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin[name], timeout=10)
        try:
            connection.request("GET", "/stats?usedonly")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return sum(int(found) for found in re.findall(rf"{re.escape(what)}: (\d+)", text))


@pytest.fixture
def clocks(children: Children, backend: Server) -> Iterator[Clocks]:
    with contextlib.ExitStack() as stack:
        yield Clocks(children, backend, stack)


@pytest.mark.parametrize("seconds", [90, -90])
@pytest.mark.parametrize("side", ["web", "edge"])
def test_a_clock_that_is_off_by_90_seconds_fails_no_request(clocks: Clocks, side: str, seconds: int) -> None:
    with traffic(clocks.port, "once.test") as once, traffic(clocks.port, "kept.test") as kept:
        clocks.ahead = dt.timedelta(seconds=seconds)
        for _ in range(10):
            clocks.renew(side)
            handshakes = once.requests
            clocks.children.wait_until(lambda at=handshakes: once.requests > at + 20, what="handshakes", timeout=60)
    assert once.failures + kept.failures == []


@pytest.mark.parametrize("side", ["web", "edge"])
def test_a_clock_that_is_off_by_5_minutes_fails_new_connections_clearly_and_mends_within_5_seconds(
    clocks: Clocks, side: str
) -> None:
    other = "edge" if side == "web" else "web"
    assert works(clocks.port, "kept.test")
    with traffic(clocks.port, "kept.test") as kept:
        clocks.ahead = dt.timedelta(minutes=5)
        clocks.renew(side)
        clocks.children.wait_until(lambda: not works(clocks.port, "once.test"), what="handshakes to fail")
        if side == "web":
            assert request(clocks.port, "once.test").startswith("503")
            log = clocks.children.folder / "edge.log"  # Envoy's access log
            clocks.children.wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in log.read_text(), what="the reason")
        before = kept.requests
        clocks.children.wait_until(lambda: kept.requests > before + 50, what="requests to pass", timeout=60)
        assert clocks.stat(other, "ssl.fail_verify_error") > 0
        clocks.ahead = dt.timedelta()
        began = time.monotonic()
        clocks.renew(side)
        clocks.children.wait_until(lambda: works(clocks.port, "once.test"), what="handshakes to succeed")
        took = time.monotonic() - began
    assert kept.failures == []
    assert took < 5, took


def test_a_clock_that_is_5_minutes_behind_fails_no_request(clocks: Clocks) -> None:
    with traffic(clocks.port, "once.test") as once:
        clocks.ahead = dt.timedelta(minutes=-5)
        for side in ("web", "edge", "web"):
            clocks.renew(side)
            handshakes = once.requests
            clocks.children.wait_until(lambda at=handshakes: once.requests > at + 20, what="handshakes", timeout=60)
    assert once.failures == []


# -- the control plane and its authority ------------------------------------------------------------------------------


def test_leaves_that_are_renewed_every_few_seconds_for_minutes_fail_no_request(
    children: Children, backend: Server
) -> None:
    mesh = Agents(children, backend, life=15)
    had = mesh.renewals()
    with traffic(mesh.port, "once.test") as once, traffic(mesh.port, "kept.test") as kept:
        pass_time(children, RENEWING)
    assert mesh.renewals() - had > RENEWING / 6  # each agent renews after 6 to 9 seconds
    assert min(once.requests, kept.requests) > 500
    assert once.failures + kept.failures == []


def test_a_control_plane_that_is_dead_for_35_percent_of_a_leafs_life_fails_no_request(
    children: Children, backend: Server
) -> None:
    life = 80  # 4 s are left after the latest renewal and an outage
    mesh = Agents(children, backend, life=life)
    with traffic(mesh.port, "once.test") as once, traffic(mesh.port, "kept.test") as kept:
        for outage in range(2):
            mesh.wait_for_renewals(1)  # at another moment of the two agents' lives each time
            mesh.kill()
            pass_time(children, 0.35 * life - mesh.took_to_serve)
            mesh.serve(f"again-{outage}")
            mesh.wait_for_renewals(3)
    assert once.requests > 200
    assert once.failures + kept.failures == []


def test_an_intermediate_is_rotated_under_traffic_and_no_request_fails(
    children: Children, backend: Server, tmp_path: Path
) -> None:
    words = {name: tmp_path / name for name in ("passphrase", "root-passphrase")}
    for path in words.values():
        path.write_text("a passphrase of some length\n")
        path.chmod(0o600)
    folder, offline = tmp_path / "ca", tmp_path / "usb"

    def fairlead(*arguments: str) -> str:
        command = [*FAIRLEAD, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    sealed = ("--passphrase-file", str(words["passphrase"]))
    root = ("--root-passphrase-file", str(words["root-passphrase"]))
    fairlead("ca", "init", "--dir", str(folder), *sealed, "--offline-root", str(offline), *root)
    mesh = Agents(children, backend, f"folder:{folder}", "--ca-settle-time", "1")
    api = ("--server", f"http://127.0.0.1:{mesh.api}")

    def signer() -> str:
        found = mesh.serving.client.get("/api/v1/authority")["authorities"]
        return next(str(one["id"]) for one in found if one["state"] == "active")

    first = signer()
    with traffic(mesh.port, "once.test") as once, traffic(mesh.port, "kept.test") as kept:
        asked = tmp_path / "request.pem"
        asked.write_text(fairlead("ca", "request", *api))
        signed = tmp_path / "signed.pem"
        signed.write_text(fairlead("ca", "sign", str(asked), "--root", str(offline), *root))
        fairlead("ca", "prepare", "--chain", str(signed), *api)
        states = mesh.serving.client.get("/api/v1/authority")["authorities"]
        prepared = next(str(one["id"]) for one in states if one["state"] == "prepared")
        fairlead("ca", "activate", prepared, *api, "--wait", "60")
        assert signer() != first
        mesh.wait_for_renewals(4)
    assert once.requests > 200
    assert once.failures + kept.failures == []


def test_a_store_that_is_damaged_and_restored_from_a_backup_has_the_same_authority_and_fails_no_request(
    children: Children, backend: Server, tmp_path: Path
) -> None:
    mesh = Agents(children, backend, life=90)  # 36 s are left for the mending after the latest renewal
    file, copy = children.folder / "fairlead.db", tmp_path / "copy.db"
    store = ("--store", f"sqlite:{file}")
    authority = mesh.serving.client.get("/api/v1/authority")["authorities"]
    with traffic(mesh.port, "once.test") as once, traffic(mesh.port, "kept.test") as kept:
        subprocess.run([*FAIRLEAD, "backup", str(copy), *store], check=True, capture_output=True, timeout=60)
        mesh.wait_for_renewals(1)
        mesh.kill()
        file.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)
        for left_over in ("-wal", "-shm"):
            Path(f"{file}{left_over}").unlink(missing_ok=True)
        refused = subprocess.run(
            [*FAIRLEAD, "serve", "--insecure-xds", *store], check=False, capture_output=True, text=True, timeout=60
        )
        assert refused.returncode == 1
        assert "restore" in refused.stderr
        subprocess.run([*FAIRLEAD, "restore", str(copy), *store], check=True, capture_output=True, timeout=60)
        mesh.serve("restored")
        assert mesh.serving.client.get("/api/v1/authority")["authorities"] == authority
        mesh.wait_for_renewals(3)
    assert once.requests > 200
    assert once.failures + kept.failures == []
