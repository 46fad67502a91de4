"""What the way in for tokens shows where there is an authority, and the ConfigMaps that tell pods of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discovery.kubernetes.api import ApiError, UnreachableError
from fairlead.identities.token_door import OwnDoor
from fairlead.identities.trust_config_maps import CA_KEY, CONFIG_MAP, COPY_LABEL, BundleCopies
from fairlead.processes import Children, free_port
from tests.support.programs import start_serve
from tests.support.xds_client import until
from tests.unit.fairlead.test_serve_kubernetes import away
from xds.server.server_certificates import ServerCertificate

JSON = dict[str, Any]
HOME = f"/api/v1/namespaces/home/configmaps/{CONFIG_MAP}"


class ConfigMaps:
    """The ConfigMaps of an API server: read, listed by label, and applied over; by their paths."""

    def __init__(self, found: Mapping[str, JSON] | None = None) -> None:
        self.found: dict[str, JSON] = dict(found or {})
        self.writes: list[str] = []
        self.away = False

    async def request(self, method: str, path: str, *, query: Any = None, body: bytes | None = None, **_: Any) -> bytes:
        if self.away:
            raise UnreachableError("away")
        if method == "PATCH":
            applied = msgspec.json.decode(body or b"")
            before = self.found.get(path, {"metadata": {}})
            labels = {**before["metadata"].get("labels", {}), **applied["metadata"].get("labels", {})}
            data = {**before.get("data", {}), **applied["data"]}
            self.found[path] = {"metadata": {**applied["metadata"], "labels": labels}, "data": data}
            self.writes.append(path)
            return b"{}"
        if path.endswith("/configmaps"):
            assert query == {"labelSelector": f"{COPY_LABEL}=true"}
            within = path.removesuffix("/api/v1/configmaps") if path == "/api/v1/configmaps" else path + "/"
            items = [
                one
                for at, one in self.found.items()
                if at.startswith(within) and one["metadata"].get("labels", {}).get(COPY_LABEL) == "true"
            ]
            return msgspec.json.encode({"items": items})
        if path not in self.found:
            raise ApiError(404, "NotFound", "no such thing")
        return msgspec.json.encode(self.found[path])

    def roots(self, path: str = HOME) -> str:
        return str(self.found[path].get("data", {}).get(CA_KEY, ""))

    def lines(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def door(api: ConfigMaps, clock: Clock | None = None) -> OwnDoor:
    shown = ServerCertificate(b"chain", b"key")
    return OwnDoor(api, lambda: shown, namespace="home", mount_time=120.0, monotonic=clock or Clock())


async def test_the_config_map_tells_of_our_authority_and_of_nothing_before_there_is_one() -> None:
    api = ConfigMaps({HOME: {"metadata": {"name": CONFIG_MAP}, "data": {CA_KEY: "the authority of before"}}})
    made = door(api)
    await made.publish()
    assert api.writes == []
    told: list[bytes] = []
    made.listen(told.append)
    made.changed(b"ours")
    made.changed(b"ours")
    await made.publish()
    await made.publish()
    assert (api.roots(), api.writes, told, made.bundle) == ("ours", [HOME], [b"ours"], b"ours")
    assert made.problems == ()


async def test_a_root_is_spread_once_pods_have_had_the_time_to_see_it() -> None:
    api, clock = ConfigMaps(), Clock()
    made = door(api, clock)
    made.changed(b"first")
    assert not made.spread(b"first")
    await made.publish()
    clock.now += 119
    assert not made.spread(b"first")
    clock.now += 1
    assert made.spread(b"first")
    made.changed(b"first second")
    assert not made.spread(b"first second")
    await made.publish()
    await made.publish()
    clock.now += 60
    await made.publish()
    assert not made.spread(b"first second")
    clock.now += 60
    assert made.spread(b"first second")
    assert not made.spread(b"first")


async def test_replicas_with_an_authority_each_are_told_of() -> None:
    api = ConfigMaps()
    one, two = door(api), door(api)
    one.changed(b"one's")
    two.changed(b"two's")
    await one.publish()
    await two.publish()
    assert (one.problems, two.problems) == ((), ())
    await one.publish()
    assert [problem.code for problem in one.problems] == ["AuthorityNotShared"]
    assert "--ca secret:NAME" in one.problems[0].fix
    await one.publish()
    assert one.problems == ()


async def test_what_cannot_be_published_is_told_and_tried_again() -> None:
    api = ConfigMaps()
    made = door(api)
    api.away = True
    made.changed(b"ours")
    task = asyncio.get_running_loop().create_task(made.run())
    try:
        await until(lambda: [problem.code for problem in made.problems] == ["RootsNotPublished"])
        api.away = False
        await until(lambda: made.problems == ())
        assert api.roots() == "ours"
    finally:
        task.cancel()


def labelled(namespace: str, **data: str) -> tuple[str, JSON]:
    metadata = {"name": "roots", "namespace": namespace, "labels": {COPY_LABEL: "true", "team": "a"}}
    return f"/api/v1/namespaces/{namespace}/configmaps/roots", {"metadata": metadata, "data": dict(data)}


async def test_copies_are_filled_where_somebody_asks_for_one_and_nowhere_else() -> None:
    (asked, empty), (stale, old) = labelled("shop"), labelled("pay", **{CA_KEY: "old", "other": "kept"})
    unasked = "/api/v1/namespaces/shop/configmaps/theirs"
    api = ConfigMaps({asked: empty, stale: old, unasked: {"metadata": {"name": "theirs"}, "data": {CA_KEY: "x"}}})
    copies = BundleCopies(lambda: {"default": api})
    copies.note(b"ours")
    await copies.fill(api)
    await copies.fill(api)
    assert (api.roots(asked), api.roots(stale), api.roots(unasked)) == ("ours", "ours", "x")
    assert api.found[stale]["data"]["other"] == "kept"
    assert sorted(api.writes) == sorted([asked, stale])


async def test_who_watches_some_namespaces_keeps_copies_in_these_alone() -> None:
    (asked, empty), (elsewhere, other) = labelled("shop"), labelled("pay")
    api = ConfigMaps({asked: empty, elsewhere: other})
    copies = BundleCopies(lambda: {"default": api}, ["shop"])
    copies.note(b"ours")
    await copies.fill(api)
    assert (api.roots(asked), api.roots(elsewhere)) == ("ours", "")


async def test_a_cluster_that_is_away_holds_up_no_copies_in_another() -> None:
    asked, empty = labelled("shop")
    here, there = ConfigMaps({asked: empty}), ConfigMaps()
    there.away = True
    copies = BundleCopies(lambda: {"there": there, "here": here})
    task = asyncio.get_running_loop().create_task(copies.run())
    copies.note(b"ours")
    try:
        await until(lambda: here.roots(asked) == "ours")
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


# -- as a process --------------------------------------------------------------------------------------------------


def shown(port: int, roots: str) -> None:
    """Shake hands, believing those roots alone, with whoever is named as pods name it."""
    context = ssl.create_default_context(cadata=roots)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), 10) as line,
        context.wrap_socket(line, server_hostname="fairlead.fairlead-system.svc"),
    ):
        pass


def test_with_an_authority_the_door_for_tokens_shows_its_certificate_also_while_the_cluster_is_away(
    tmp_path: Path, children: Children
) -> None:
    door_port, xds, api = free_port(), free_port(), free_port()
    serving = start_serve(
        children,
        *("--kubernetes", str(away(tmp_path)), "--kubernetes-optional", "default", "--gateway-xds", "none"),
        *("--kubernetes-lease", "fairlead-system/fairlead", "--ca", "memory", "--xds-tokens", f"127.0.0.1:{door_port}"),
        xds=xds,
        api=api,
        secure=True,
    )
    roots = subprocess.run(
        ["openssl", "x509", "-inform", "DER"],
        input=_first_root(serving.client.request("GET", "/api/v1/authority/bundle").body),
        capture_output=True,
        check=True,
    ).stdout.decode()
    shown(door_port, roots)
    with pytest.raises(ssl.SSLCertVerificationError):
        shown(door_port, _stranger())


def _first_root(bundle: bytes) -> bytes:
    import base64

    keys = msgspec.json.decode(bundle)["keys"]
    return base64.b64decode(next(key["x5c"][0] for key in keys if "x5c" in key))


def _stranger() -> str:
    from mesh.spiffe import TrustDomain
    from sds.builtin import in_memory

    return in_memory(TrustDomain("cluster.local")).bundle().pem().decode()
