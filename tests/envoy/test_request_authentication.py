"""End users' tokens: real Envoys, real tokens, what passes and what the backend sees of it.

Tests whose names begin with a CVE's number hold what that case asks of us (`docs/how-to/request-authentication.md`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead.processes import free_port
from mesh.jwks import NOBODYS_KEYS
from mesh.model import Audience
from tests.support.issuers import Issuer
from tests.support.routing import Server, document, gateway, get, route, service, serving

pytestmark = pytest.mark.envoy

GATEWAY_API = "gateway.networking.k8s.io"
EDGE = {"group": GATEWAY_API, "kind": "Gateway", "name": "edge"}
ROUTE = {"group": GATEWAY_API, "kind": "HTTPRoute", "name": "route"}
NAMESPACE = {"kind": "Namespace", "name": "default"}
RULES = """
  - name: api
    matches: [{path: {value: /api}}]
    backendRefs: [{name: echo, port: 80}]
  - name: public
    matches: [{path: {value: /public}}]
    backendRefs: [{name: echo, port: 80}]
  - backendRefs: [{name: echo, port: 80}]"""
ISSUER = Issuer()
OTHER = Issuer("https://other.example.com", algorithm="RS256", kid="two")
STRANGER = Issuer("https://stranger.example.com")


def rule(issuer: Issuer = ISSUER, **more: Any) -> dict[str, Any]:
    return {"issuer": issuer.name, "jwks": issuer.jwks, **more}


def policy(target: dict[str, Any], name: str = "policy", **spec: Any) -> str:
    return document("RequestAuthentication", name, {"targetRefs": [target], **spec})


@contextmanager
def edge(tmp_path: Path, backend: Server, *policies: str) -> Iterator[int]:
    port = free_port()
    tmp_path.mkdir(exist_ok=True)
    text = gateway(port) + service("echo", backend.server_port) + route(RULES) + "".join(policies)
    with serving(text, tmp_path):
        yield port


def status(port: int, path: str = "/", token: str | None = None, **headers: str) -> int:
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return get(port, path, **headers)[0]


def seen(port: int, path: str = "/", **headers: str) -> dict[str, str]:
    """The headers that the backend got."""
    answer, _, echoed = get(port, path, **headers)
    assert answer == 200
    arrived: dict[str, str] = echoed["headers"]
    return arrived


@pytest.mark.shows("RequestAuthentication.jwtRules", "issuer", "jwks")
@pytest.mark.shows("RequestAuthentication.targetRefs", "group", "kind", "name")
def test_a_bad_token_is_refused_and_a_missing_one_let_through(tmp_path: Path, backend: Server) -> None:
    with edge(tmp_path, backend, policy(EDGE, jwtRules=[rule()])) as port:
        assert status(port) == 200
        assert status(port, token=ISSUER.token()) == 200
        bad = [
            STRANGER.token(),
            STRANGER.token(iss=ISSUER.name),
            ISSUER.token(exp=1),
            ISSUER.token(nbf=2**31),
            ISSUER.token(header={"alg": "none"}),
            ISSUER.token(header={"alg": "HS256"}),
            ISSUER.token(header={"kid": "unknown"}),
            ISSUER.token()[:-8],
            "rubbish",
            "",
        ]
        assert [status(port, token=token) for token in bad[:-1]] == [401] * (len(bad) - 1)
        # Without anything after `Bearer ` there is no token.
        assert status(port, authorization="Basic YTpi") == 200
    assert len(backend.seen) == 3


@pytest.mark.shows("RequestAuthentication", "required")
def test_where_a_token_is_required_a_request_without_one_is_refused(tmp_path: Path, backend: Server) -> None:
    with edge(tmp_path, backend, policy(EDGE, jwtRules=[rule(), rule(OTHER)], required=True)) as port:
        assert [status(port), status(port, token=STRANGER.token()), status(port, token="x.y.z")] == [401] * 3
        assert [status(port, token=ISSUER.token()), status(port, token=OTHER.token())] == [200] * 2


def test_of_several_issuers_each_is_judged_by_its_own_keys(tmp_path: Path, backend: Server) -> None:
    edwards = Issuer("https://edwards.example.com", algorithm="EdDSA")
    with edge(tmp_path, backend, policy(EDGE, jwtRules=[rule(), rule(OTHER), rule(edwards)])) as port:
        for issuer in (ISSUER, OTHER, edwards):
            assert status(port, token=issuer.token()) == 200
            assert status(port, token=issuer.token(exp=1)) == 401
        assert status(port, token=ISSUER.token(iss=OTHER.name)) == 401
        assert status(port, token=OTHER.token(iss=ISSUER.name)) == 401
        assert status(port) == 200


@pytest.mark.shows("RequestAuthentication.jwtRules", "audiences")
def test_a_token_must_be_for_one_of_the_audiences(tmp_path: Path, backend: Server) -> None:
    with edge(tmp_path, backend, policy(EDGE, jwtRules=[rule(audiences=["shop", "till"])])) as port:
        assert [status(port, token=ISSUER.token(aud=aud)) for aud in ("shop", ["x", "till"])] == [200, 200]
        # Envoy says 403 of a token that is good and meant for somebody else.
        assert [status(port, token=ISSUER.token(aud=aud)) for aud in ("x", [], None)] == [403, 403, 403]


@pytest.mark.shows(
    "RequestAuthentication.jwtRules", "fromHeaders.name", "fromHeaders.prefix", "fromParams", "fromCookies"
)
def test_tokens_are_found_where_the_rule_says_and_nowhere_else(tmp_path: Path, backend: Server) -> None:
    places = {
        "fromHeaders": [{"name": "X-Token", "prefix": "Token "}],
        "fromParams": ["token"],
        "fromCookies": ["session"],
    }
    with edge(tmp_path, backend, policy(EDGE, jwtRules=[rule(**places)], required=True)) as port:
        good, bad = ISSUER.token(), ISSUER.token(exp=1)
        assert status(port, x_token=f"Token {good}") == 200
        assert status(port, f"/?token={good}") == 200
        assert status(port, cookie=f"a=b; session={good}") == 200
        assert status(port, x_token=f"Token {bad}") == 401
        assert status(port, f"/?token={bad}") == 401
        assert status(port, cookie=f"session={bad}") == 401
        assert status(port, token=good) == 401
        assert status(port, f"/?access_token={good}") == 401


@pytest.mark.shows("RequestAuthentication.jwtRules", "forwardOriginalToken")
def test_a_token_goes_no_further_unless_the_rule_says_so(tmp_path: Path, backend: Server) -> None:
    token = ISSUER.token()
    with edge(tmp_path / "a", backend, policy(EDGE, jwtRules=[rule()])) as port:
        assert "authorization" not in seen(port, authorization=f"Bearer {token}")
    with edge(tmp_path / "b", backend, policy(EDGE, jwtRules=[rule(forwardOriginalToken=True)])) as port:
        assert seen(port, authorization=f"Bearer {token}")["authorization"] == f"Bearer {token}"


@pytest.mark.shows(
    "RequestAuthentication.jwtRules",
    "outputPayloadToHeader",
    "outputClaimToHeaders.header",
    "outputClaimToHeaders.claim",
)
def test_claims_and_payload_reach_the_backend_in_headers(tmp_path: Path, backend: Server) -> None:
    outputs = {
        "outputPayloadToHeader": "X-Payload",
        "outputClaimToHeaders": [
            {"header": "X-Subject", "claim": "sub"},
            {"header": "x-level", "claim": "realm.level"},
            {"header": "x-absent", "claim": "absent"},
        ],
    }
    with edge(tmp_path, backend, policy(EDGE, jwtRules=[rule(**outputs)])) as port:
        got = seen(port, authorization=f"Bearer {ISSUER.token(realm={'level': 7})}")
        assert (got["x-subject"], got["x-level"]) == ("ann", "7")
        assert "x-absent" not in got
        payload = got["x-payload"]
        assert json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"] == "ann"


def test_cve_2020_8843_headers_with_claims_from_outside_are_stripped_on_every_route(
    tmp_path: Path, backend: Server
) -> None:
    outputs = {
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [{"header": "x-subject", "claim": "sub"}, {"header": "x-role", "claim": "role"}],
    }
    api = {**ROUTE, "sectionName": "api"}
    with edge(tmp_path, backend, policy(api, jwtRules=[rule(**outputs)])) as port:
        forged = {"x_subject": "root", "x_payload": "cm9vdA", "x_role": "admin", "X_Subject": "root"}
        for path in ("/api", "/public", "/"):
            got = seen(port, path, **forged)
            assert not {"x-subject", "x-payload", "x-role"} & got.keys(), path
        got = seen(port, "/api", authorization=f"Bearer {ISSUER.token()}", **forged)
        assert got["x-subject"] == "ann"
        assert "x-role" not in got


@pytest.mark.shows("RequestAuthentication.targetRefs", "sectionName")
def test_a_narrower_policy_decides_for_its_part_and_inherits_the_rest(tmp_path: Path, backend: Server) -> None:
    with edge(
        tmp_path,
        backend,
        policy(EDGE, "wide", jwtRules=[rule()]),
        policy({**ROUTE, "sectionName": "api"}, "narrow", required=True),
        policy({**ROUTE, "sectionName": "public"}, "open", jwtRules=[]),
    ) as port:
        assert [status(port, path) for path in ("/api", "/public", "/")] == [401, 200, 200]
        assert [status(port, path, ISSUER.token()) for path in ("/api", "/public", "/")] == [200, 200, 200]
        assert [status(port, path, STRANGER.token()) for path in ("/api", "/public", "/")] == [401, 200, 401]


@pytest.mark.shows("RequestAuthentication", "overrides")
def test_overrides_of_a_gateway_are_not_undone_by_a_route(tmp_path: Path, backend: Server) -> None:
    strict = {"jwtRules": [rule()], "required": True}
    loose = policy(ROUTE, "loose", jwtRules=[], required=False)
    with edge(tmp_path / "a", backend, policy(EDGE, "gate", overrides=strict), loose) as port:
        assert [status(port), status(port, token=ISSUER.token())] == [401, 200]
    with edge(tmp_path / "b", backend, policy(EDGE, "gate", **strict), loose) as port:
        assert [status(port), status(port, token="rubbish")] == [200, 200]


def test_a_policy_of_the_namespace_holds_for_its_routes(tmp_path: Path, backend: Server) -> None:
    wide = policy(NAMESPACE, "all", jwtRules=[rule()], required=True)
    with edge(tmp_path, backend, wide, policy({**ROUTE, "sectionName": "public"}, "open", required=False)) as port:
        assert [status(port, path) for path in ("/", "/public")] == [401, 200]
        assert [status(port, path, STRANGER.token()) for path in ("/", "/public")] == [401, 401]


def test_listeners_of_one_port_may_differ(tmp_path: Path, backend: Server) -> None:
    port = free_port()
    text = gateway(port, "a.example.com", "b.example.com") + service("echo", backend.server_port)
    text += route(RULES, hosts="[]").replace("hostnames: []", "")
    text += policy({**EDGE, "sectionName": "l1"}, "second", jwtRules=[rule()], required=True)
    text += policy({**ROUTE, "sectionName": "public"}, "open", required=False)
    with serving(text, tmp_path):
        assert [get(port, path, "a.example.com")[0] for path in ("/", "/public")] == [200, 200]
        assert [get(port, path, "b.example.com")[0] for path in ("/", "/public")] == [401, 200]
        bad = f"Bearer {STRANGER.token()}"
        assert [get(port, "/public", f"{host}.example.com", authorization=bad)[0] for host in "ab"] == [200, 401]


def test_cve_2026_31837_without_keys_of_the_issuer_no_token_is_valid(tmp_path: Path, backend: Server) -> None:
    unknown = {"issuer": ISSUER.name, "jwksUri": "https://issuer.example.com/jwks.json"}
    known = json.loads(NOBODYS_KEYS)["keys"][0]
    with edge(tmp_path, backend, policy(EDGE, jwtRules=[unknown])) as port:
        assert status(port) == 200
        forged = [
            ISSUER.token(),
            ISSUER.token(header={"kid": known["kid"]}),
            STRANGER.token(iss=ISSUER.name, header={"kid": known["kid"], "jwk": STRANGER.jwk}),
            ISSUER.token(header={"alg": "none", "kid": known["kid"]}),
        ]
        assert [status(port, token=token) for token in forged] == [401] * len(forged)


def test_nobody_gets_in_where_a_token_is_required_and_no_issuer_named(tmp_path: Path, backend: Server) -> None:
    with edge(tmp_path, backend, policy(EDGE, required=True)) as port:
        assert [status(port), status(port, token=ISSUER.token())] == [401, 401]
        assert status(port, x_fairlead_nobody=ISSUER.token()) == 401


def test_a_preflight_needs_no_token(tmp_path: Path, backend: Server) -> None:
    import http.client

    with edge(tmp_path, backend, policy(EDGE, jwtRules=[rule()], required=True)) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"host": "a.example.com", "origin": "https://x.org", "access-control-request-method": "GET"}
        connection.request("OPTIONS", "/", headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status != 401
        assert status(port) == 401


def test_in_front_of_a_workload_its_sidecar_asks_for_the_token(tmp_path: Path, backend: Server) -> None:
    ingress = free_port()
    sidecar = Audience("sidecar", "default", "echo", backend.server_port, ingress, 0)
    text = service("echo", backend.server_port)
    outputs = {"outputClaimToHeaders": [{"header": "x-subject", "claim": "sub"}]}
    text += policy({"kind": "Service", "name": "echo"}, jwtRules=[rule(**outputs)], required=True)
    with serving(text, tmp_path, sidecar):
        assert [status(ingress), status(ingress, token=STRANGER.token())] == [401, 401]
        assert seen(ingress, authorization=f"Bearer {ISSUER.token()}", x_subject="root")["x-subject"] == "ann"
