"""`fairlead ca` and a real server with a built-in authority: rotation with a proxy that is held back, and kills."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fairlead.processes import Children, free_port
from mesh.spiffe import TrustDomain
from sds.certificates import new_root
from sds.keys import new_key
from tests.support.outer import mount
from tests.support.programs import FAIRLEAD, Serving, start_serve
from tests.support.xds_client import Client, node, until
from xds.schema import unpack
from xds.schema.type_urls import TYPE_SECRET

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str, str], Path]:
    def make(name: str, content: str) -> Path:
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_text(content)
        return path

    return make


@pytest.fixture
def passphrase(secret: Callable[[str, str], Path]) -> Path:
    return secret("passphrase", PASSPHRASE + "\n")


def fairlead(*words: object, code: int = 0) -> str:
    done = subprocess.run(
        [*FAIRLEAD, *map(str, words)], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def init(folder: Path, passphrase: Path, *more: object, code: int = 0) -> str:
    return fairlead("ca", "init", "--dir", folder, "--passphrase-file", passphrase, *more, code=code)


def start(children: Children, folder: Path, passphrase: Path, *more: str, name: str = "serve") -> Serving:
    ca = ("--ca", f"folder:{folder}", "--ca-passphrase-file", str(passphrase), "--ca-settle-time", "0.2", *more)
    return start_serve(children, *ca, name=name)


def authorities(serving: Serving) -> dict[str, str]:
    """State → fingerprint."""
    return {one["state"]: one["id"] for one in serving.client.get("/api/v1/authority")["authorities"]}


def step(serving: Serving, name: str, what: str, **query: str) -> dict[str, Any]:
    path = f"/api/v1/authority/{name}/{what}"
    made: dict[str, Any] = serving.client.request("POST", path, query=query).json()
    return made


def prepare(serving: Serving) -> str:
    made = serving.client.request("POST", "/api/v1/authority/prepare", body={}).json()
    return str(made["id"])


async def roots_of(client: Client) -> list[x509.Certificate]:
    """The next bundle that a proxy is sent; it is not acknowledged yet."""
    response = await client.receive()
    client.kept = response  # type: ignore[attr-defined]
    trusted = unpack(response.resources[0].resource).validation_context.trusted_ca
    return x509.load_pem_x509_certificates(trusted.inline_bytes)


async def test_a_root_signs_only_after_a_proxy_that_is_held_back_has_acknowledged_it(
    children: Children, tmp_path: Path, passphrase: Path
) -> None:
    init(tmp_path / "ca", passphrase)
    serving = start(children, tmp_path / "ca", passphrase)
    async with Client(serving.xds) as quick, Client(serving.xds) as slow:
        for client, name in ((quick, "quick"), (slow, "slow")):
            await client.send(
                TYPE_SECRET, node=node(f"sidecar~shop~reviews~{name}"), resource_names_subscribe=["ROOTCA"]
            )
            assert len(await roots_of(client)) == 1
            await client.ack(client.kept)  # type: ignore[attr-defined]
        new = prepare(serving)
        for client in (quick, slow):
            assert len(await roots_of(client)) == 2
        await quick.ack(quick.kept)  # type: ignore[attr-defined]
        assert step(serving, new, "activate")["state"] == "prepared"

        def waiting() -> list[str]:
            found: list[str] = serving.client.get("/api/v1/authority")["gate"]["waiting"]
            return found

        await until(lambda: waiting() == ["sidecar~shop~reviews~slow"])
        assert "slow" in fairlead("ca", "compare", "--server", f"http://127.0.0.1:{serving.api}", code=3)
        assert "fairlead_ca_proxies_waiting 1.0" in serving.client.request("GET", "/metrics").body.decode()
        assert authorities(serving)["prepared"] == new
        await slow.ack(slow.kept)  # type: ignore[attr-defined]
        await until(lambda: authorities(serving).get("active") == new)
        # Nothing that the old one signed lives, so its root leaves the bundle.
        for client in (quick, slow):
            assert len(await roots_of(client)) == 1
            await client.ack(client.kept)  # type: ignore[attr-defined]
        await until(lambda: "older" not in str(serving.client.get("/api/v1/authority/proxies")))
        fairlead("ca", "compare", "--server", f"http://127.0.0.1:{serving.api}")


@pytest.mark.faults
async def test_a_proxy_that_refused_the_bundle_is_waited_for_though_its_last_good_one_stands(
    children: Children, tmp_path: Path, passphrase: Path
) -> None:
    init(tmp_path / "ca", passphrase)
    serving = start(children, tmp_path / "ca", passphrase)
    async with Client(serving.xds) as client:
        await client.send(TYPE_SECRET, node=node("sidecar~shop~reviews~1"), resource_names_subscribe=["ROOTCA"])
        await roots_of(client)
        await client.ack(client.kept)  # type: ignore[attr-defined]
        new = prepare(serving)
        await roots_of(client)
        await client.ack(client.kept, error="no")  # type: ignore[attr-defined]
        assert step(serving, new, "activate")["state"] == "prepared"

        def last_good_stands() -> bool:
            [row] = serving.client.get("/api/v1/proxies/sidecar~shop~reviews~1")["resources"]["SDS"]
            return bool(row["acked"])

        await until(last_good_stands)
        assert authorities(serving)["prepared"] == new
        assert serving.client.get("/api/v1/authority")["gate"]["waiting"] == ["sidecar~shop~reviews~1"]


@pytest.mark.faults
def test_killed_after_each_step_it_comes_back_with_it(children: Children, tmp_path: Path, passphrase: Path) -> None:
    init(tmp_path / "ca", passphrase)
    bundles: list[int] = []

    def again(number: int, serving: Serving | None = None) -> Serving:
        if serving is not None:
            bundles.append(serving.client.get("/api/v1/authority/bundle")["spiffe_sequence"])
            children.started.remove(serving.child)
            serving.child.process.kill()
            serving.child.process.wait(20)
        found = start(children, tmp_path / "ca", passphrase, name=f"serve{number}")
        if bundles:
            assert found.client.get("/api/v1/authority/bundle")["spiffe_sequence"] == bundles[-1]
        return found

    serving = again(0)
    old = authorities(serving)["active"]
    new = prepare(serving)
    serving = again(1, serving)
    assert authorities(serving) == {"active": old, "prepared": new}
    step(serving, new, "activate", override="true")
    # Nothing that it signed lives, so it is revoked by itself at once.
    children.wait_until(lambda: authorities(serving) == {"active": new, "revoked": old}, what="the old one to go")
    serving = again(2, serving)
    assert authorities(serving) == {"active": new, "revoked": old}
    assert len(serving.client.get("/api/v1/authority/bundle")["keys"]) == 2
    assert bundles == sorted(bundles)


@pytest.mark.faults
def test_a_damaged_authority_stops_the_start_and_a_backup_brings_it_back(
    children: Children, tmp_path: Path, passphrase: Path
) -> None:
    folder = tmp_path / "ca"
    init(folder, passphrase)
    serving = start(children, folder, passphrase)
    new = prepare(serving)
    backup = (folder / "authority").read_bytes()
    children.started.remove(serving.child)
    serving.child.process.kill()
    serving.child.process.wait(20)
    (folder / "authority").write_bytes(backup[:1000] + b"\0" * 10 + backup[1010:])
    said = fairlead(
        "serve", "--insecure-xds", "--xds", "127.0.0.1:0", "--api", "127.0.0.1:0", "--store", f"sqlite:{tmp_path}/x.db",
        "--ca", f"folder:{folder}", "--ca-passphrase-file", passphrase, code=1,
    )  # fmt: skip
    assert "are damaged. Fix: put a backup back" in said
    assert "Traceback" not in said
    (folder / "authority").write_bytes(backup)
    assert authorities(start(children, folder, passphrase, name="again"))["prepared"] == new


@pytest.mark.faults
def test_damage_while_it_runs_hurts_nothing_and_is_gone_with_the_next_step(
    children: Children, tmp_path: Path, passphrase: Path
) -> None:
    folder = tmp_path / "ca"
    init(folder, passphrase)
    serving = start(children, folder, passphrase)
    (folder / "authority").write_bytes(b"damaged")
    new = prepare(serving)
    children.started.remove(serving.child)
    serving.child.process.kill()
    serving.child.process.wait(20)
    assert authorities(start(children, folder, passphrase, name="again"))["prepared"] == new


def test_an_authority_is_kept_in_the_store_sealed(children: Children, tmp_path: Path) -> None:
    store = tmp_path / "f.db"
    env = {"FAIRLEAD_CA_PASSPHRASE": PASSPHRASE}
    first = start_serve(children, "--ca", "store", store=store, env=env)
    made = authorities(first)
    children.started.remove(first.child)
    first.child.process.kill()
    first.child.process.wait(20)
    assert b"PRIVATE" not in store.read_bytes()
    assert authorities(start_serve(children, "--ca", "store", name="again", store=store, env=env)) == made


def test_an_offline_root_signs_what_the_server_asks_for(
    children: Children, tmp_path: Path, passphrase: Path, secret: Callable[[str, str], Path]
) -> None:
    other = secret("other", "another passphrase\n")
    folder, usb = tmp_path / "ca", tmp_path / "usb"
    init(folder, passphrase, "--offline-root", usb, "--root-passphrase-file", other)
    assert b"ENCRYPTED" in (usb / "root.key").read_bytes()
    serving = start(children, folder, passphrase)
    at = ("--server", f"http://127.0.0.1:{serving.api}")
    assert "ca request" in fairlead("ca", "prepare", *at, code=1)
    request, chain = tmp_path / "request.pem", tmp_path / "chain.pem"
    request.write_text(fairlead("ca", "request", *at))
    sign = ("ca", "sign", request, "--root", usb, "--root-passphrase-file")
    assert "passphrase is another one" in fairlead(*sign, passphrase, code=1)
    chain.write_text(fairlead(*sign, other))
    fairlead("ca", "prepare", "--chain", chain, *at)
    new = authorities(serving)["prepared"]
    # Everybody trusts its root already: it waits for nobody.
    assert f"{new} is active" in fairlead("ca", "activate", new[:6], *at)


def test_init_overwrites_nothing_and_wants_good_passphrases(
    tmp_path: Path, passphrase: Path, secret: Callable[[str, str], Path]
) -> None:
    init(tmp_path / "ca", passphrase)
    before = (tmp_path / "ca" / "authority").read_bytes()
    assert "already" in init(tmp_path / "ca", passphrase, code=1)
    assert (tmp_path / "ca" / "authority").read_bytes() == before
    passphrase.chmod(0o644)
    assert "chmod 600" in init(tmp_path / "other", passphrase, code=2)
    assert "12" in init(tmp_path / "other", secret("short", "short\n"), code=2)
    passphrase.chmod(0o600)
    assert "--key-type" in init(tmp_path / "other", passphrase, "--key-type", "dsa", code=2)


def test_without_an_authority_the_api_says_so(children: Children) -> None:
    serving = start_serve(children)
    said = fairlead("ca", "status", "--server", f"http://127.0.0.1:{serving.api}", code=1)
    assert "Start it with --ca" in said
    assert serving.client.get("/api/v1/federation") == {"items": []}


def test_an_authority_as_files_is_followed_when_they_are_renewed(children: Children, tmp_path: Path) -> None:
    trust_domain, now = TrustDomain("cluster.local"), dt.datetime.now(dt.UTC)
    first, second = (new_root(trust_domain, new_key(), now=now, lifetime=dt.timedelta(days=90)) for _ in range(2))
    mount(tmp_path / "ca", first, number=1)
    serving = start_serve(children, "--ca", f"files:{tmp_path}/ca", "--ca-settle-time", "0.2")
    assert authorities(serving) == {"active": first.id}
    (tmp_path / "ca" / "..data" / "tls.key").write_text("half a key")
    children.wait_until(
        lambda: "AuthorityFiles" in str(serving.client.get("/api/v1/problems")), what="the broken files to be told of"
    )
    assert authorities(serving) == {"active": first.id}
    mount(tmp_path / "ca", second, number=2)
    children.wait_until(lambda: authorities(serving).get("active") == second.id, what="the new authority to sign")
    assert "AuthorityFiles" not in str(serving.client.get("/api/v1/problems"))
    fairlead("ca", "prepare", "--server", f"http://127.0.0.1:{serving.api}", code=1)


def test_two_trust_domains_believe_each_other_in_what_is_theirs(children: Children, tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    port = free_port()
    theirs = start_serve(
        children, "--trust-domain", "elsewhere.org", "--ca", "memory", "--bundle-endpoint", f"127.0.0.1:{port}",
        "--ca-settle-time", "0", name="theirs", store=tmp_path / "theirs.db",
    )  # fmt: skip
    first.write_text(fairlead("ca", "bundle", "--server", f"http://127.0.0.1:{theirs.api}"))
    setting = f"elsewhere.org=https://127.0.0.1:{port}/;spiffe://elsewhere.org/fairlead/bundle-endpoint;{first}"
    ours = start_serve(children, "--ca", "memory", "--federate", setting, name="ours", store=tmp_path / "ours.db")

    def known() -> dict[str, Any]:
        found: dict[str, Any] = ours.client.get("/api/v1/federation")["items"][0]
        return found

    assert known()["roots"] == 1
    prepare(theirs)
    ours.client.request("POST", "/api/v1/federation/elsewhere.org/refresh")
    assert known()["roots"] == 2
    theirs.child.process.kill()
    theirs.child.process.wait(20)
    children.started.remove(theirs.child)
    said = fairlead(
        "ca", "federation", "--refresh", "elsewhere.org", "--server", f"http://127.0.0.1:{ours.api}", code=1
    )
    assert "The last good bundle stands" in said
    assert known()["roots"] == 2
    assert "elsewhere.org" in str(ours.client.get("/api/v1/problems"))
