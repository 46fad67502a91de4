"""RoutePolicy: nonsense is refused with its path, and what will not do what was meant is warned of."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate

ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "reviews"}

RULE = {**ROUTE, "sectionName": "beta"}


def found(level: str, **spec: Any) -> list[str]:
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "RoutePolicy",
        "metadata": {"name": "x"},
        "spec": {"targetRefs": [ROUTE], **spec},
    }
    return [f"{problem.code} {problem.path}" for problem in validate(raw).problems if problem.level == level]


def header(value: str, name: str = "x-a") -> dict[str, Any]:
    return {"headers": {"request": {"set": [{"name": name, "value": value}]}}}


def faulty(**abort: Any) -> dict[str, Any]:
    return {"faultInjection": {"abort": {"httpStatus": 503, **abort}}}


def rewritten(**host: Any) -> dict[str, Any]:
    return {"rewrite": {"host": host}}


def from_path(pattern: str, substitution: str = r"\1.example.com") -> dict[str, Any]:
    return rewritten(fromPath={"pattern": pattern, "substitution": substitution})


VALUE = "spec.headers.request.set[0].value"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"targetRefs": [{"kind": "Service", "name": "x"}]}, "UnsupportedKind spec.targetRefs[0]"),
        ({"matchCookies": [{"name": "a"}]}, "NotAllowed spec.matchCookies"),
        ({"targetRefs": [RULE], "matchCookies": []}, "TooFew spec.matchCookies"),
        ({"targetRefs": [RULE, ROUTE], "matchCookies": [{"name": "a"}]}, "NotAllowed spec.matchCookies"),
        (
            {"targetRefs": [{**RULE, "kind": "GRPCRoute"}], "matchCookies": [{"name": "a"}]},
            "NotAllowed spec.matchCookies",
        ),
        (
            {"targetRefs": [RULE], "overrides": {"matchCookies": [{"name": "a"}]}},
            "NotAllowed spec.overrides.matchCookies",
        ),
        (
            {"targetRefs": [RULE], "matchCookies": [{"name": "a"}, {"name": "a", "value": "b"}]},
            "DuplicateName spec.matchCookies[1].name",
        ),
        (
            {"targetRefs": [RULE], "matchCookies": [{"name": "a", "value": "b; c"}]},
            "InvalidFormat spec.matchCookies[0].value",
        ),
        ({"directResponse": {"status": 205, "body": "x"}}, "InvalidCombination spec.directResponse.body"),
        (
            {"responseOverrides": [{"statuses": ["500"], "redirectTo": "/x", "body": "b"}]},
            "InvalidCombination spec.responseOverrides[0].body",
        ),
        ({"rewrite": {"path": {"pattern": ".*"}}}, "InvalidFormat spec.rewrite.path.substitution"),
        (
            {"rewrite": {"path": {"pattern": "^.*$", "substitution": "foo"}}},
            "InvalidFormat spec.rewrite.path.substitution",
        ),
        ({"redirect": {"pattern": "/"}}, "InvalidFormat spec.redirect.substitution"),
        (faulty(percent=0.00001), "OutOfRange spec.faultInjection.abort.percent"),
        (
            {"faultInjection": {"abort": {"httpStatus": 503}, "headers": [{"name": "a"}, {"name": "A", "value": "b"}]}},
            "DuplicateName spec.faultInjection.headers[1].name",
        ),
        (
            {"headers": {"request": {"add": [{"name": "x-a", "value": "1"}], "remove": ["X-A"]}}},
            "InvalidCombination spec.headers.request.remove[0]",
        ),
        (header("a", "upgrade"), "NotAllowed spec.headers.request.set[0].name"),
        ({"sessionAffinity": {"header": "Content-Length"}}, "NotAllowed spec.sessionAffinity.header"),
        (
            {"sessionAffinity": {"cookie": {"name": "a", "ttl": "500ms"}}},
            "OutOfRange spec.sessionAffinity.cookie.ttl",
        ),
        (
            {"sessionAffinity": {"cookie": {"name": "a", "path": "/; domain=x"}}},
            "InvalidFormat spec.sessionAffinity.cookie.path",
        ),
        ({"requestBuffer": {"maxBytes": 1}, "webSocket": True}, "InvalidCombination spec.webSocket"),
        ({"requestBuffer": {"maxBytes": 1}, "connect": "Forward"}, "InvalidCombination spec.connect"),
        (rewritten(), "InvalidCombination spec.rewrite.host"),
        (rewritten(fromHeader="x-a", fromBackend=True), "InvalidCombination spec.rewrite.host"),
        ({"redirect": {"pattern": "/[a-z]{985}"}}, "InvalidRegex spec.redirect.pattern"),
        (from_path("(a"), "InvalidRegex spec.rewrite.host.fromPath.pattern"),
        (from_path("/a"), "InvalidFormat spec.rewrite.host.fromPath.substitution"),
        (from_path("/(a)", ""), "InvalidFormat spec.rewrite.host.fromPath.substitution"),
        (from_path("/(a)", "a b"), "InvalidFormat spec.rewrite.host.fromPath.substitution"),
        (from_path("/(a)", "http://a"), "InvalidFormat spec.rewrite.host.fromPath.substitution"),
        ({"internalRedirects": {"statuses": [302, 302]}}, "Duplicate spec.internalRedirects.statuses"),
        ({"internalRedirects": {"statuses": [304]}}, "UnknownValue spec.internalRedirects.statuses[0]"),
        (
            {"internalRedirects": {}, "credentialInjection": {"secret": {"name": "a", "key": "b"}}},
            "InvalidCombination spec.internalRedirects",
        ),
        ({"extensions": [{}]}, "InvalidCombination spec.extensions[0]"),
        (
            {"extensions": [{"lua": {"inline": "a"}, "wasm": {"file": "/a"}}]},
            "InvalidCombination spec.extensions[0]",
        ),
        ({"extensions": [{"lua": {}}]}, "InvalidCombination spec.extensions[0].lua"),
        ({"extensions": [{"lua": {"inline": "a\0"}}]}, "InvalidFormat spec.extensions[0].lua.inline"),
        ({"extensions": [{"lua": {"inline": "a" * 65_537}}]}, "TooLong spec.extensions[0].lua.inline"),
        (
            {"extensions": [{"lua": {"inline": "a"}, "dynamicModule": {"name": "a"}}]},
            "InvalidCombination spec.extensions[0]",
        ),
        ({"extensions": [{"dynamicModule": {}}]}, "MissingField spec.extensions[0].dynamicModule.name"),
        (
            {"extensions": [{"dynamicModule": {"name": "../a"}}]},
            "InvalidFormat spec.extensions[0].dynamicModule.name",
        ),
        ({"extensions": [{"wasm": {}}]}, "InvalidCombination spec.extensions[0].wasm"),
        ({"extensions": [{"wasm": {"file": "a.wasm"}}]}, "InvalidFormat spec.extensions[0].wasm.file"),
        ({"extensions": [{"extProc": {}}]}, "MissingField spec.extensions[0].extProc.backend"),
        (
            {"extensions": [{"extProc": {"backend": {"name": "a", "port": 1}, "messageTimeout": "0s"}}]},
            "OutOfRange spec.extensions[0].extProc.messageTimeout",
        ),
        (
            {"extensions": [{"extProc": {"backend": {"name": "a", "port": 1}, "messageTimeout": "2m"}}]},
            "OutOfRange spec.extensions[0].extProc.messageTimeout",
        ),
        (
            {"extensions": [{"extProc": {"backend": {"name": "a", "port": 1}, "requestHeaders": False}}]},
            "InvalidCombination spec.extensions[0].extProc",
        ),
        ({"extensions": [{"lua": {"inline": "a"}}] * 5}, "TooMany spec.extensions"),
        ({"connect": "Perhaps"}, "UnknownValue spec.connect"),
        ({"grpcJSON": {"descriptor": {}, "services": ["a.B"]}}, "InvalidCombination spec.grpcJSON.descriptor"),
        (
            {
                "grpcJSON": {
                    "descriptor": {"inline": "AAAA", "configMap": {"name": "a", "key": "b"}},
                    "services": ["a.B"],
                }
            },
            "InvalidCombination spec.grpcJSON.descriptor",
        ),
        (
            {"grpcJSON": {"descriptor": {"inline": "no base64"}, "services": ["a.B"]}},
            "InvalidFormat spec.grpcJSON.descriptor.inline",
        ),
        ({"grpcJSON": {"descriptor": {"inline": "AAAA"}, "services": []}}, "TooFew spec.grpcJSON.services"),
        (
            {"grpcJSON": {"descriptor": {"inline": "AAAA"}, "services": ["a.B", "a.B"]}},
            "Duplicate spec.grpcJSON.services[1]",
        ),
        (
            {"grpcJSON": {"descriptor": {"inline": "AAAA"}, "services": ["a/B"]}},
            "InvalidFormat spec.grpcJSON.services[0]",
        ),
        (
            {"grpcJSON": {"descriptor": {"inline": "A" * 349_532}, "services": ["a.B"]}},
            "TooLong spec.grpcJSON.descriptor.inline",
        ),
        ({"faultInjection": {"delay": {}}}, "InvalidCombination spec.faultInjection.delay"),
        (
            {"faultInjection": {"delay": {"fixed": "1s", "fromHeader": True}}},
            "InvalidCombination spec.faultInjection.delay",
        ),
        ({"faultInjection": {"delay": {"fixed": "0s"}}}, "OutOfRange spec.faultInjection.delay.fixed"),
        ({"faultInjection": {"delay": {"fixed": "2h"}}}, "OutOfRange spec.faultInjection.delay.fixed"),
        (
            {"faultInjection": {"delay": {"fixed": "1s", "percent": 101}}},
            "OutOfRange spec.faultInjection.delay.percent",
        ),
        (
            {"faultInjection": {"abort": {"httpStatus": 503, "grpcStatus": 1}}},
            "InvalidCombination spec.faultInjection.abort",
        ),
        ({"faultInjection": {"abort": {"httpStatus": 100}}}, "OutOfRange spec.faultInjection.abort.httpStatus"),
        ({"directResponse": {"status": 200}, "redirect": {"pattern": "a"}}, "InvalidCombination spec.redirect"),
        ({"directResponse": {"status": 200, "body": "x" * 4097}}, "TooLong spec.directResponse.body"),
        ({"rewrite": {"path": {"pattern": "("}}}, "InvalidRegex spec.rewrite.path.pattern"),
        ({"rewrite": {"path": {"pattern": "(?=x)"}}}, "InvalidRegex spec.rewrite.path.pattern"),
        (
            {"rewrite": {"path": {"pattern": "(a)", "substitution": "\\2"}}},
            "InvalidFormat spec.rewrite.path.substitution",
        ),
        ({"rewrite": {"path": {"pattern": "a", "substitution": "\\"}}}, "InvalidFormat spec.rewrite.path.substitution"),
        (
            {"rewrite": {"path": {"pattern": "a", "substitution": "a\nb"}}},
            "ControlCharacter spec.rewrite.path.substitution",
        ),
        ({"responseOverrides": [{"statuses": ["600"]}]}, "InvalidFormat spec.responseOverrides[0].statuses[0]"),
        (
            {"responseOverrides": [{"statuses": ["500"]}, {"statuses": ["500"]}]},
            "Duplicate spec.responseOverrides[1].statuses[0]",
        ),
        ({"directResponse": {"status": 204, "body": "x"}}, "InvalidCombination spec.directResponse.body"),
        ({"faultInjection": {"abort": {"httpStatus": 304}}}, "NotAllowed spec.faultInjection.abort.httpStatus"),
        (
            {"responseOverrides": [{"statuses": ["500"], "status": 204, "body": "x"}]},
            "InvalidCombination spec.responseOverrides[0].body",
        ),
        (
            {"responseOverrides": [{"statuses": ["3xx"], "body": "x"}]},
            "InvalidCombination spec.responseOverrides[0].body",
        ),
        (
            {"rewrite": {"path": {"pattern": "^/a", "substitution": "b"}}},
            "InvalidFormat spec.rewrite.path.substitution",
        ),
        ({"compression": {"algorithms": ["gzip", "gzip"]}}, "Duplicate spec.compression.algorithms"),
        ({"requestBuffer": {"maxBytes": 0}}, "OutOfRange spec.requestBuffer.maxBytes"),
        (header("100%"), f"InvalidFormat {VALUE}"),
        (header("%WHATEVER%"), f"UnknownValue {VALUE}"),
        (header("%REQ()%"), f"InvalidFormat {VALUE}"),
        (header("%REQ%"), f"InvalidFormat {VALUE}"),
        (header("%PROTOCOL(x)%"), f"InvalidFormat {VALUE}"),
        (header("%PROTOCOL:5%"), f"InvalidFormat {VALUE}"),
        (header("%START_TIME(%s):5%"), f"InvalidFormat {VALUE}"),
        (header("%REQ(a?b?c)%"), f"InvalidFormat {VALUE}"),
        (header("%REQ(a:b)%"), f"InvalidFormat {VALUE}"),
        (header("%REQ(?a)%"), f"InvalidFormat {VALUE}"),
        (header("%ENVIRONMENT(TOKEN)%"), f"NotAllowed {VALUE}"),
        (header("a\r\nb"), f"ControlCharacter {VALUE}"),
        (
            {"headers": {"request": {"set": [{"name": "a", "value": "b"}, {"name": "A", "value": "c"}]}}},
            "DuplicateName spec.headers.request.set[1].name",
        ),
        (header("a", "Host"), "NotAllowed spec.headers.request.set[0].name"),
        ({"headers": {"response": {"remove": ["content-length"]}}}, "NotAllowed spec.headers.response.remove[0]"),
        ({"sessionAffinity": {}}, "InvalidCombination spec.sessionAffinity"),
        ({"sessionAffinity": {"cookie": {"name": "a b"}}}, "InvalidFormat spec.sessionAffinity.cookie.name"),
        ({"sessionAffinity": {"cookie": {"name": "a", "path": "x"}}}, "InvalidFormat spec.sessionAffinity.cookie.path"),
        ({"overrides": {"requestBuffer": {"maxBytes": 0}}}, "OutOfRange spec.overrides.requestBuffer.maxBytes"),
    ],
)
def test_nonsense_is_an_error_with_its_path(spec: dict[str, Any], problem: str) -> None:
    assert found("error", **spec) == [problem]


@pytest.mark.parametrize(
    "value", ["%REQ(x-user)%", "%START_TIME%", "%DYNAMIC_METADATA(a:b)%", "100%%", "%REQ(x?y):10%"]
)
def test_envoys_commands_are_taken(value: str) -> None:
    assert found("error", **header(value)) == []


@pytest.mark.parametrize(
    ("spec", "problem"), [({}, "MissingField spec"), ({"faultInjection": {}}, "NoEffect spec.faultInjection")]
)
def test_what_does_nothing_is_warned_of(spec: dict[str, Any], problem: str) -> None:
    assert (found("error", **spec), found("warning", **spec)) == ([], [problem])
