"""RequestAuthentication: what Envoy would refuse, what would open a door, said with the path and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from mesh.jwks import UnusableKeys, read_key_set, uri_problem
from mesh.kinds.requestauthentication import JWTRule, RequestAuthentication, RequestAuthenticationSettings
from mesh.problems import Report, shown
from mesh.validations.policy import Targets, check_both, check_targets

TARGETS: Targets = MappingProxyType(
    {
        ("gateway.networking.k8s.io", "Gateway"): True,
        ("gateway.networking.k8s.io", "HTTPRoute"): True,
        ("gateway.networking.k8s.io", "GRPCRoute"): True,
        ("", "Service"): True,
        ("fairlead.dev", "Service"): True,
        ("", "Namespace"): False,
    }
)
_FRAMING: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "content-type", "cookie"}
)
_OURS: Final = ("x-envoy-", "x-forwarded-", "x-fairlead-")


def check_requestauthentication(policy: RequestAuthentication, report: Report) -> None:
    """Judge a RequestAuthentication."""
    spec = policy.spec
    check_targets(spec.target_refs, TARGETS, policy.metadata, report)
    check_both(spec, RequestAuthenticationSettings, _check_settings, report, example="jwtRules")
    if any(ref.kind == "Namespace" for ref in spec.target_refs):
        for stanza, path in ((spec, "spec"), (spec.overrides, "spec.overrides")):
            if stanza is not None and stanza.required:
                _check_forwarded(stanza, path, report)


def _check_settings(settings: RequestAuthenticationSettings, path: str, report: Report) -> None:
    written: dict[str, int] = {}
    seen: set[JWTRule] = set()
    for number, rule in enumerate(settings.jwt_rules or ()):
        at = f"{path}.jwtRules[{number}]"
        if rule in seen:
            report.error("Duplicate", at, "the same rule is there twice", "remove one")
        seen.add(rule)
        _check_rule(rule, at, report)
        for name, where in _headers(rule, at):
            _check_header(name, where, report)
            if written.setdefault(name.lower(), number) != number:
                message = f"[{written[name.lower()]}] writes {shown(name)} too: its reader could not tell whose it is"
                report.warning("Duplicate", where, message, "give each issuer a header of its own")


def _check_forwarded(settings: RequestAuthenticationSettings, path: str, report: Report) -> None:
    """What holds for gateways and the sidecars behind them needs the token at both."""
    for number, rule in enumerate(settings.jwt_rules or ()):
        if not rule.forward_original_token:
            message = "gateways of the namespace take the token off, and sidecars behind them ask for it again"
            fix = "write `forwardOriginalToken: true`, or make the policy for the Gateway or the Services alone"
            report.warning("TokenNotForwarded", f"{path}.jwtRules[{number}]", message, fix)


def _check_rule(rule: JWTRule, path: str, report: Report) -> None:
    if (rule.jwks is None) == (rule.jwks_uri is None):
        message = "the keys of an issuer are either written or fetched"
        fix = "write one of `jwks` and `jwksUri`, as `jwksUri: https://issuer.example.com/jwks.json`"
        report.error("InvalidCombination", path, message, fix)
    if rule.jwks is not None:
        _check_keys(rule.jwks, f"{path}.jwks", report)
    if rule.jwks_uri is not None:
        _check_uri(rule.jwks_uri, f"{path}.jwksUri", report)
    for field, names in (
        ("fromHeaders", [one.name.lower() for one in rule.from_headers]),
        ("fromParams", list(rule.from_params)),
        ("fromCookies", list(rule.from_cookies)),
        ("outputClaimToHeaders", [name.lower() for name, _ in _headers(rule, path)]),
    ):
        if len(set(names)) < len(names):
            report.error("Duplicate", f"{path}.{field}", "a name is there twice", "remove one")
    if rule.from_params or rule.from_cookies:
        where = "fromParams" if rule.from_params else "fromCookies"
        message = "a token in an address or a cookie is easily seen or sent by others: logs, links, other sites"
        report.warning("ExposedToken", f"{path}.{where}", message, "prefer the Authorization header")


def _check_keys(written: str, path: str, report: Report) -> None:
    try:
        found = read_key_set(written.encode())
    except UnicodeEncodeError:
        report.error("InvalidFormat", path, "it has characters that UTF-8 cannot carry", "remove them")
        return
    except UnusableKeys as error:
        report.error("InvalidKeys", path, str(error), 'write the public keys, as `{"keys": [{"kty": "RSA", ...}]}`')
        return
    if found.private:
        message = "it holds a private or symmetric key, with which whoever reads this can sign tokens"
        report.error("PrivateKey", path, message, "replace that key at its issuer, and write its public half")
    elif found.left_out:
        message = f"{found.left_out} of its keys cannot be used and are left out"
        report.warning("UnusableKeys", path, message, "use RSA of 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519")


def _check_uri(uri: str, path: str, report: Report) -> None:
    problem = uri_problem(uri)
    if problem:
        report.error("InvalidFormat", path, problem, "write it as in `https://issuer.example.com/jwks.json`")


def _headers(rule: JWTRule, path: str) -> Iterator[tuple[str, str]]:
    """The headers that a rule has written for backends, and where it says so."""
    if rule.output_payload_to_header is not None:
        yield rule.output_payload_to_header, f"{path}.outputPayloadToHeader"
    for number, one in enumerate(rule.output_claim_to_headers):
        yield one.header, f"{path}.outputClaimToHeaders[{number}].header"


def _check_header(name: str, path: str, report: Report) -> None:
    if name.lower() in _FRAMING or name.lower().startswith(_OURS):
        message = f"{shown(name)} frames or routes the request, or is the proxy's own"
        report.error("NotAllowed", path, message, "name another header, as `x-jwt-subject`")
    if name.lower() == "authorization":
        message = "Authorization is where the token itself comes from"
        report.error("NotAllowed", path, message, "name another header, or write `forwardOriginalToken: true`")
