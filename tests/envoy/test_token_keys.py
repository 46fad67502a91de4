"""The keys of token issuers while all runs: fetched, changed, away, back; and policies that change no listener."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.processes import Children, free_port
from mesh.kinds import KINDS
from tests.support.certificates import Authority
from tests.support.fields import note
from tests.support.issuers import Issuer, KeyServer, key_server
from tests.support.programs import RunningEnvoy, Serving, start_envoy, start_serve
from tests.support.routing import Server, document, gateway, get, route, service
from tests.support.traffic import Traffic

pytestmark = pytest.mark.envoy

GATEWAY_API = "gateway.networking.k8s.io"
EDGE = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge"}
ROUTE = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": "route"}
RULES = "\n  - backendRefs: [{name: echo, port: 80}]"
HOST = "a.example.com"


class World:
    """A server that fetches keys from loopback, a gateway, and a folder whose files make its rules."""

    def __init__(self, children: Children, backend: Server, authority: Authority, *, sotw: bool = False) -> None:
        self.children = children
        self.port = free_port()
        self.folder = children.folder / "config"
        self.folder.mkdir()
        self.arguments = ("--files", str(self.folder), "--jwks-ca", str(authority.ca))
        self.arguments += ("--jwks-private", "127.0.0.0/8", "--jwks-refresh", "1")
        self.write("base", gateway(self.port) + service("echo", backend.server_port) + route(RULES))
        self.sotw = sotw

    def start(self, *more: str, xds: int = 0) -> Serving:
        return start_serve(self.children, *self.arguments, *more, xds=xds)

    def envoy(self, serving: Serving) -> RunningEnvoy:
        flags = ("--sotw",) if self.sotw else ()
        running = start_envoy(self.children, "gateway", "edge", *flags, xds=serving.xds)
        self.children.wait_until(lambda: connects(self.port), what="the gateway to listen")
        return running

    def write(self, name: str, text: str) -> None:
        new = self.folder / f"{name}.new"
        found = [each for each in yaml.safe_load_all(text) if each]
        for each in found:
            note(each)
        documents = ({"apiVersion": KINDS[each["kind"]].api_version, **each} for each in found)
        new.write_text("\n---\n".join(json.dumps(each) for each in documents))
        new.replace(self.folder / f"{name}.yaml")

    def policy(self, target: dict[str, Any], name: str = "policy", **spec: Any) -> None:
        self.write(name, document("RequestAuthentication", name, {"targetRefs": [target], **spec}))

    def status(self, token: str | None = None) -> int:
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        return get(self.port, "/", HOST, **headers)[0]

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        self.children.wait_until(holds, what=what)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issuers(authority: Authority) -> Iterator[KeyServer]:
    with key_server(authority.server("issuer")) as found:
        yield found


def connects(port: int) -> bool:
    """Whether somebody listens there; nobody else takes a port that a test chose."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def told(serving: Serving, kind: str, name: str = "policy") -> dict[str, Any]:
    """A condition of a policy."""
    path = f"/api/v1/namespaces/default/requestauthentications/{name}"
    conditions = json.loads(serving.client.request("GET", path).body).get("status", {}).get("conditions", [])
    found: dict[str, Any] = next((one for one in conditions if one["type"] == kind), {})
    return found


def one_request(world: World, token: str | None = None) -> Callable[[], str]:
    def ask() -> str:
        try:
            answer = world.status(token)
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        return "" if answer == 200 else str(answer)

    return ask


@pytest.mark.parametrize("sotw", [False, True])
def test_a_policy_comes_changes_and_goes_and_no_listener_changes_and_no_request_fails(
    children: Children, backend: Server, authority: Authority, sotw: bool
) -> None:
    issuer = Issuer()
    world = World(children, backend, authority, sotw=sotw)
    envoy = world.envoy(world.start())
    before = envoy.stat("listener_manager.listener_create_success"), envoy.stat("listener_manager.listener_modified")
    kept = http.client.HTTPConnection("127.0.0.1", world.port, timeout=10)
    kept.request("GET", "/", headers={"host": HOST})
    kept.getresponse().read()
    port_of_mine = kept.sock.getsockname()[1]
    rule = {"issuer": issuer.name, "jwks": issuer.jwks}
    with Traffic(one_request(world, issuer.token()), pause=0.002) as traffic:
        for _ in range(5):
            world.policy(ROUTE, jwtRules=[rule])
            world.wait(lambda: world.status("rubbish") == 401, "the policy to hold")
            assert world.status() == 200
            world.policy(ROUTE, jwtRules=[rule], required=True)
            world.wait(lambda: world.status() == 401, "a token to be required")
            (world.folder / "policy.yaml").unlink()
            world.wait(lambda: world.status() == 200, "the policy to be gone")
    assert traffic.requests > 50
    assert traffic.failures == []
    after = envoy.stat("listener_manager.listener_create_success"), envoy.stat("listener_manager.listener_modified")
    assert after == before
    kept.request("GET", "/", headers={"host": HOST})
    assert kept.getresponse().status == 200
    assert kept.sock.getsockname()[1] == port_of_mine
    kept.close()


@pytest.mark.shows("RequestAuthentication.jwtRules", "jwksUri")
def test_keys_are_fetched_and_followed_and_no_request_with_a_good_token_fails(
    children: Children, backend: Server, authority: Authority, issuers: KeyServer
) -> None:
    old, new = Issuer(kid="old"), Issuer(kid="new")
    world = World(children, backend, authority)
    issuers.publish("/jwks", old)
    world.policy(EDGE, jwtRules=[{"issuer": old.name, "jwksUri": issuers.url("/jwks")}], required=True)
    serving = world.start()
    envoy = world.envoy(serving)
    assert world.status(old.token()) == 200  # known before the first proxy was let in
    assert [world.status(), world.status(new.token())] == [401, 401]
    assert told(serving, "KeysFetched")["reason"] == "KeysFetched"
    before = envoy.stat("listener_manager.listener_create_success"), envoy.stat("listener_manager.listener_modified")
    with Traffic(one_request(world, old.token()), pause=0.005) as traffic:
        issuers.publish("/jwks", old, new)
        world.wait(lambda: world.status(new.token()) == 200, "the new key")
    assert traffic.failures == []
    with Traffic(one_request(world, new.token()), pause=0.005) as traffic:
        issuers.publish("/jwks", new)
        world.wait(lambda: world.status(old.token()) == 401, "the old key to be gone")
    assert traffic.failures == []
    after = envoy.stat("listener_manager.listener_create_success"), envoy.stat("listener_manager.listener_modified")
    assert after == before


def test_cve_2026_31837_an_issuer_that_is_away_opens_no_door_and_troubles_no_other(
    children: Children, backend: Server, authority: Authority, issuers: KeyServer
) -> None:
    good, away, slow = (Issuer(f"https://{name}.example.com") for name in ("good", "away", "slow"))
    world = World(children, backend, authority)
    issuers.publish("/good", good)
    issuers.answers["/away"] = (503, {}, b"<html>")
    issuers.answers["/slow"] = (200, {}, threading.Event())
    rules = [{"issuer": one.name, "jwksUri": issuers.url(f"/{one.name[8:12]}")} for one in (good, away, slow)]
    world.policy(EDGE, jwtRules=rules)
    serving = world.start()
    envoy = world.envoy(serving)
    assert [world.status(one.token()) for one in (good, away, slow)] == [200, 401, 401]
    assert world.status() == 200
    condition = told(serving, "KeysFetched")
    assert (condition["status"], condition["reason"]) == ("False", "KeysUnknown")
    assert "the answer was 503" in condition["message"]
    page = serving.client.request("GET", "/metrics").body.decode()
    assert 'fairlead_jwks_sets{state="known"} 1.0' in page
    assert 'fairlead_jwks_sets{state="unknown"} 2.0' in page
    assert any(problem["source"] == "jwks" for problem in serving.client.items("/api/v1/problems")["items"])
    issuers.publish("/away", away)
    world.wait(lambda: world.status(away.token()) == 200, "the keys that were away")
    # Its last good keys stand while it is away again, over a restart too.
    issuers.answers["/away"] = (200, {}, b"x" * 600_000)
    issuers.answers["/good"] = (302, {"location": "https://169.254.169.254/"}, b"")
    world.wait(lambda: told(serving, "KeysFetched").get("message", "").count("last stand") == 2, "both to be away")
    assert [world.status(one.token()) for one in (good, away)] == [200, 200]
    serving.child.stop()
    children.started.remove(serving.child)
    again = world.start(xds=serving.xds)
    world.wait(lambda: envoy.stat("control_plane.connected_state") == 1, "Envoy to be back")
    world.wait(lambda: told(again, "KeysFetched").get("message", "").count("last stand") == 2, "both to be asked")
    assert [world.status(one.token()) for one in (good, away, slow)] == [200, 200, 401]
    assert envoy.stat("listener_manager.listener_modified") == 0


def test_what_holds_is_shown_with_who_says_so(children: Children, backend: Server, authority: Authority) -> None:
    issuer = Issuer()
    world = World(children, backend, authority)
    world.policy(EDGE, "gate", jwtRules=[{"issuer": issuer.name, "jwks": issuer.jwks}])
    world.policy(ROUTE, "api", required=True)
    found = world.start().client.items("/api/v1/effective-policies")["items"]
    shown = {(one["target"]["kind"], one["target"].get("where", "")): one["origins"] for one in found}
    assert shown == {
        ("Gateway", ""): {"jwtRules": "RequestAuthentication default/gate"},
        ("HTTPRoute", "at Gateway default/edge"): {
            "jwtRules": "RequestAuthentication default/gate",
            "required": "RequestAuthentication default/api",
        },
    }
