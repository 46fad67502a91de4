"""RequestAuthentication: what would open a door or mean nothing is refused with its path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.validation import validate
from tests.support.issuers import Issuer

EDGE = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}
ISSUER = Issuer()
URI = "https://issuer.example.com/jwks.json"


def found(level: str, **spec: Any) -> list[str]:
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "x"},
        "spec": {"targetRefs": [EDGE], **spec},
    }
    return [f"{problem.code} {problem.path}" for problem in validate(raw).problems if problem.level == level]


def rule(**more: Any) -> dict[str, Any]:
    given = {"issuer": "https://issuer.example.com", "jwksUri": URI, **more}
    return {"jwtRules": [{name: value for name, value in given.items() if value is not None}]}


def keys(*written: Any) -> dict[str, Any]:
    return rule(jwksUri=None, jwks=json.dumps({"keys": written}))


AT = "spec.jwtRules[0]"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"targetRefs": [{"kind": "ServiceSubset", "name": "x"}]}, "UnsupportedKind spec.targetRefs[0]"),
        ({"targetRefs": [{"kind": "Namespace", "name": "other"}]}, "NotAllowed spec.targetRefs[0].name"),
        ({"jwtRules": [{"jwksUri": URI}]}, f"MissingField {AT}.issuer"),
        (rule(jwksUri=None), f"InvalidCombination {AT}"),
        (rule(jwks=ISSUER.jwks), f"InvalidCombination {AT}"),
        (rule(jwksUri=None, jwks="nonsense"), f"InvalidKeys {AT}.jwks"),
        (rule(jwksUri=None, jwks=""), f"InvalidKeys {AT}.jwks"),
        (keys(), f"InvalidKeys {AT}.jwks"),
        (keys({"kty": "oct", "k": "c2VjcmV0"}), f"InvalidKeys {AT}.jwks"),
        (keys(ISSUER.jwk, {"kty": "oct", "k": "c2VjcmV0"}), f"PrivateKey {AT}.jwks"),
        (keys({**ISSUER.jwk, "d": "c2VjcmV0"}), f"PrivateKey {AT}.jwks"),
        (rule(jwksUri="http://issuer.example.com/jwks.json"), f"InvalidFormat {AT}.jwksUri"),
        (rule(jwksUri="file:///etc/passwd"), f"InvalidFormat {AT}.jwksUri"),
        (rule(jwksUri="https://user:word@issuer.example.com/"), f"InvalidFormat {AT}.jwksUri"),
        (rule(jwksUri="https://issuer.example.com/#a"), f"InvalidFormat {AT}.jwksUri"),
        (rule(jwksUri="https://"), f"InvalidFormat {AT}.jwksUri"),
        (rule(jwksUri="https://a.org/ b"), f"InvalidFormat {AT}.jwksUri"),
        (rule(jwksUri="https://a.org:99999/"), f"InvalidFormat {AT}.jwksUri"),
        (rule(jwksUri="https://ä.org/"), f"InvalidFormat {AT}.jwksUri"),
        (rule(issuer="a\nb"), f"ControlCharacter {AT}.issuer"),
        (rule(fromHeaders=[{"name": "a", "prefix": "\r\n"}]), f"ControlCharacter {AT}.fromHeaders[0].prefix"),
        (rule(fromHeaders=[{"name": "a"}, {"name": "A"}]), f"Duplicate {AT}.fromHeaders"),
        (rule(fromHeaders=[{"name": "a b"}]), f"InvalidFormat {AT}.fromHeaders[0].name"),
        (rule(outputPayloadToHeader="host"), f"NotAllowed {AT}.outputPayloadToHeader"),
        (rule(outputPayloadToHeader="Authorization"), f"NotAllowed {AT}.outputPayloadToHeader"),
        (
            rule(outputClaimToHeaders=[{"header": "X-Forwarded-For", "claim": "sub"}]),
            f"NotAllowed {AT}.outputClaimToHeaders[0].header",
        ),
        (
            rule(outputClaimToHeaders=[{"header": "x-fairlead-scope", "claim": "sub"}]),
            f"NotAllowed {AT}.outputClaimToHeaders[0].header",
        ),
        (
            rule(outputClaimToHeaders=[{"header": "x", "claim": "a..b"}]),
            f"InvalidFormat {AT}.outputClaimToHeaders[0].claim",
        ),
        (
            rule(outputPayloadToHeader="x-a", outputClaimToHeaders=[{"header": "X-A", "claim": "b"}]),
            f"Duplicate {AT}.outputClaimToHeaders",
        ),
        ({"jwtRules": [*rule()["jwtRules"], *rule()["jwtRules"]]}, "Duplicate spec.jwtRules[1]"),
        ({"overrides": rule(jwksUri="x")}, "InvalidFormat spec.overrides.jwtRules[0].jwksUri"),
    ],
)
def test_what_would_open_a_door_or_cannot_work_is_an_error(spec: dict[str, Any], problem: str) -> None:
    assert problem in found("error", **spec)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "MissingField spec"),
        (rule(fromParams=["token"]), f"ExposedToken {AT}.fromParams"),
        (rule(fromCookies=["session"]), f"ExposedToken {AT}.fromCookies"),
        (
            {**rule(), "required": True, "targetRefs": [{"kind": "Namespace", "name": "default"}]},
            f"TokenNotForwarded {AT}",
        ),
        (keys(ISSUER.jwk, {"kty": "EC"}), f"UnusableKeys {AT}.jwks"),
        (
            {"jwtRules": [rule(issuer=name, outputPayloadToHeader="x-a")["jwtRules"][0] for name in ("a", "b")]},
            "Duplicate spec.jwtRules[1].outputPayloadToHeader",
        ),
    ],
)
def test_what_will_surprise_is_warned_of(spec: dict[str, Any], problem: str) -> None:
    assert found("error", **spec) == []
    assert problem in found("warning", **spec)


def test_what_is_right_is_not_complained_about() -> None:
    for spec in (rule(), keys(ISSUER.jwk), {"jwtRules": []}, {"required": True}, {"overrides": {"required": True}}):
        assert found("error", **spec) + found("warning", **spec) == [], spec
