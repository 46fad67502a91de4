"""ClientPolicy: nonsense is refused with its path and the way out, and what will not do what was meant is warned of."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate

GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}


def found(level: str, **spec: Any) -> list[str]:
    raw = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "ClientPolicy",
        "metadata": {"name": "x"},
        "spec": {"targetRefs": [GATEWAY], **spec},
    }
    problems = [problem for problem in validate(raw).problems if problem.level == level]
    assert all(problem.fix for problem in problems)
    return [f"{problem.code} {problem.path}" for problem in problems]


def validation(**rules: Any) -> dict[str, Any]:
    return {"tls": {"clientValidation": rules}}


def early(name: str, value: str) -> dict[str, Any]:
    return {"earlyRequestHeaders": {"set": [{"name": name, "value": value}]}}


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"targetRefs": [{"kind": "Service", "name": "x"}]}, "UnsupportedKind spec.targetRefs[0]"),
        ({"clientAddress": {}}, "InvalidCombination spec.clientAddress"),
        ({"clientAddress": {"trustedHops": 1, "header": "x-real-ip"}}, "InvalidCombination spec.clientAddress"),
        ({"clientAddress": {"trustedHops": 0}}, "OutOfRange spec.clientAddress.trustedHops"),
        ({"clientAddress": {"trustedCidrs": []}}, "TooFew spec.clientAddress.trustedCidrs"),
        ({"clientAddress": {"trustedCidrs": ["10.0.0.1/8"]}}, "InvalidFormat spec.clientAddress.trustedCidrs[0]"),
        ({"clientAddress": {"trustedCidrs": ["10.0.0.0/33"]}}, "InvalidFormat spec.clientAddress.trustedCidrs[0]"),
        ({"clientAddress": {"trustedCidrs": ["::/0"]}}, "NotAllowed spec.clientAddress.trustedCidrs[0]"),
        ({"clientAddress": {"header": "Host"}}, "NotAllowed spec.clientAddress.header"),
        ({"clientAddress": {"header": ":authority"}}, "InvalidFormat spec.clientAddress.header"),
        ({"tls": {"minVersion": "0.9"}}, "UnknownValue spec.tls.minVersion"),
        ({"tls": {"maxVersion": "1.1"}}, "InvalidCombination spec.tls.maxVersion"),
        ({"tls": {"minVersion": "1.1", "maxVersion": "1.0"}}, "InvalidCombination spec.tls.maxVersion"),
        ({"tls": {"minVersion": "1.0", "ciphers": ["AES128-GCM-SHA256"]}}, "InvalidCombination spec.tls.ciphers"),
        ({"tls": {"minVersion": "1.3", "maxVersion": "1.2"}}, "InvalidCombination spec.tls.maxVersion"),
        ({"tls": {"minVersion": "1.3", "ciphers": ["AES128-SHA"]}}, "NotAllowed spec.tls.ciphers"),
        ({"tls": {"ciphers": ["RC4-MD5"]}}, "UnknownValue spec.tls.ciphers[0]"),
        ({"tls": {"curves": ["P-256", "P-256"]}}, "Duplicate spec.tls.curves[1]"),
        ({"tls": {"alpn": ["h3"]}}, "UnknownValue spec.tls.alpn[0]"),
        ({"tls": {"fingerprints": ["JA5"]}}, "UnknownValue spec.tls.fingerprints[0]"),
        ({"tls": {"fingerprints": ["JA3", "JA3"]}}, "Duplicate spec.tls.fingerprints[1]"),
        ({"tls": {"sessionResumption": {"tickets": False}}}, "UnknownField spec.tls.sessionResumption.tickets"),
        (validation(spkiHashes=["a" * 44]), "InvalidFormat spec.tls.clientValidation.spkiHashes[0]"),
        (validation(spkiHashes=["A" * 43 + "="] * 2), "Duplicate spec.tls.clientValidation.spkiHashes[1]"),
        (validation(certificateHashes=["AA:BB"]), "InvalidFormat spec.tls.clientValidation.certificateHashes[0]"),
        (validation(certificateHashes=[]), "TooFew spec.tls.clientValidation.certificateHashes"),
        (
            validation(subjectAltNames=[{"type": "DNS"}]),
            "InvalidCombination spec.tls.clientValidation.subjectAltNames[0]",
        ),
        (
            validation(subjectAltNames=[{"type": "DNS", "exact": "a", "suffix": "b"}]),
            "InvalidCombination spec.tls.clientValidation.subjectAltNames[0]",
        ),
        (
            validation(subjectAltNames=[{"type": "IP", "exact": "::0:1"}]),
            "InvalidFormat spec.tls.clientValidation.subjectAltNames[0]",
        ),
        (
            validation(subjectAltNames=[{"type": "IP", "prefix": "10."}]),
            "InvalidFormat spec.tls.clientValidation.subjectAltNames[0]",
        ),
        (validation(crl={}), "MissingField spec.tls.clientValidation.crl.configMap"),
        ({"headers": {"maxRequestKib": 0}}, "OutOfRange spec.headers.maxRequestKib"),
        ({"headers": {"maxRequestKib": 8193}}, "OutOfRange spec.headers.maxRequestKib"),
        ({"headers": {"maxCount": -1}}, "OutOfRange spec.headers.maxCount"),
        ({"headers": {"underscores": "Maybe"}}, "UnknownValue spec.headers.underscores"),
        (
            {"clientAddress": {"trustedHops": 1, "rejectWithStatus": 403}},
            "NotAllowed spec.clientAddress.rejectWithStatus",
        ),
        (
            {"clientAddress": {"header": "x-a", "rejectWithStatus": 200}},
            "OutOfRange spec.clientAddress.rejectWithStatus",
        ),
        (
            {"clientAddress": {"header": "x-a", "rejectWithStatus": 499}},
            "UnknownValue spec.clientAddress.rejectWithStatus",
        ),
        (
            {"headers": {"xForwardedClientCert": {"mode": "ForwardOnly", "certDetailsToAdd": ["URI"]}}},
            "InvalidCombination spec.headers.xForwardedClientCert.certDetailsToAdd",
        ),
        (
            {"headers": {"xForwardedClientCert": {"mode": "SanitizeSet", "certDetailsToAdd": ["URI", "URI"]}}},
            "Duplicate spec.headers.xForwardedClientCert.certDetailsToAdd[1]",
        ),
        ({"headers": {"xForwardedClientCert": {}}}, "MissingField spec.headers.xForwardedClientCert.mode"),
        ({"headers": early("host", "a")}, "NotAllowed spec.headers.earlyRequestHeaders.set[0].name"),
        ({"headers": early("X-Envoy-Retry-On", "5xx")}, "NotAllowed spec.headers.earlyRequestHeaders.set[0].name"),
        ({"headers": early("x-route", "%ROUTE_NAME%")}, "NotAllowed spec.headers.earlyRequestHeaders.set[0].value"),
        ({"headers": early("x-a", "%NOTHING%")}, "UnknownValue spec.headers.earlyRequestHeaders.set[0].value"),
        (
            {"headers": {"lateResponseHeaders": {"add": [{"name": "Server", "value": "a"}]}}},
            "NotAllowed spec.headers.lateResponseHeaders.add[0].name",
        ),
        (
            {"headers": {"lateResponseHeaders": {"remove": ["content-length"]}}},
            "NotAllowed spec.headers.lateResponseHeaders.remove[0]",
        ),
        ({"healthCheck": {}}, "MissingField spec.healthCheck.path"),
        ({"healthCheck": {"path": "healthz"}}, "InvalidFormat spec.healthCheck.path"),
        ({"healthCheck": {"path": "/healthz?deep"}}, "InvalidFormat spec.healthCheck.path"),
        ({"healthCheck": {"path": "/a/../healthz"}}, "InvalidFormat spec.healthCheck.path"),
        ({"healthCheck": {"path": "//healthz"}}, "InvalidFormat spec.healthCheck.path"),
        ({"scheme": "https"}, "UnknownValue spec.scheme"),
        ({"connections": {"limit": 1, "closeDelay": "0s"}}, "OutOfRange spec.connections.closeDelay"),
        ({"connections": {"socketBufferLimit": 1}}, "OutOfRange spec.connections.socketBufferLimit"),
        ({"path": {"escapedSlashes": "keep"}}, "UnknownValue spec.path.escapedSlashes"),
        ({"http1": {"http10": {"defaultHost": "a b"}}}, "InvalidFormat spec.http1.http10.defaultHost"),
        ({"http2": {"onInvalidMessage": "Ignore"}}, "UnknownValue spec.http2.onInvalidMessage"),
        ({"tcpKeepalive": {"time": "32768s"}}, "OutOfRange spec.tcpKeepalive.time"),
        ({"tcpKeepalive": {"probes": 128}}, "OutOfRange spec.tcpKeepalive.probes"),
        ({"http2": {"maxConcurrentStreams": 0}}, "OutOfRange spec.http2.maxConcurrentStreams"),
        ({"http2": {"initialStreamWindowSize": 1}}, "OutOfRange spec.http2.initialStreamWindowSize"),
        ({"http2": {"keepaliveInterval": "0s"}}, "OutOfRange spec.http2.keepaliveInterval"),
        ({"http3": {"enabled": True}, "tls": {"maxVersion": "1.2"}}, "InvalidCombination spec.http3.enabled"),
        (
            {"http3": {"earlyData": True}, "tls": {"sessionResumption": {"stateless": False}}},
            "InvalidCombination spec.http3.earlyData",
        ),
        ({"http3": {"advertisedPort": 0}}, "OutOfRange spec.http3.advertisedPort"),
        ({"http3": {"advertisedFor": "1500ms"}}, "OutOfRange spec.http3.advertisedFor"),
        ({"http3": {"initialStreamWindowSize": 2**25}}, "OutOfRange spec.http3.initialStreamWindowSize"),
        ({"timeouts": {"tlsHandshake": "0s"}}, "OutOfRange spec.timeouts.tlsHandshake"),
        ({"timeouts": {"idle": "9999h"}}, "OutOfRange spec.timeouts.idle"),
        ({"timeouts": {"request": "-1s"}}, "InvalidFormat spec.timeouts.request"),
        ({"timeouts": {"request": "1s", "requestHeaders": "2s"}}, "InvalidCombination spec.timeouts.requestHeaders"),
        ({"connections": {"limit": 0}}, "OutOfRange spec.connections.limit"),
        ({"connections": {"bufferLimit": 1}}, "OutOfRange spec.connections.bufferLimit"),
        ({"tcpKeepalive": {"time": "1500ms"}}, "OutOfRange spec.tcpKeepalive.time"),
        ({"overrides": {"connections": {"limit": 0}}}, "OutOfRange spec.overrides.connections.limit"),
    ],
)
def test_nonsense_is_refused_with_its_path(spec: dict[str, Any], problem: str) -> None:
    assert problem in found("error", **spec)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "MissingField spec"),
        ({"http2": {"keepaliveTimeout": "1s"}}, "MissingField spec.http2.keepaliveInterval"),
        ({"connections": {"closeDelay": "1s"}}, "MissingField spec.connections.limit"),
        (
            {"headers": {"xForwardedClientCert": {"mode": "AlwaysForwardOnly"}}},
            "Unsafe spec.headers.xForwardedClientCert.mode",
        ),
    ],
)
def test_what_will_not_do_what_was_meant_is_warned_of(spec: dict[str, Any], problem: str) -> None:
    assert found("error", **spec) == []
    assert problem in found("warning", **spec)
