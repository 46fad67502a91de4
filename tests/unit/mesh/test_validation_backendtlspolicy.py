"""The rules of BackendTLSPolicy: each fault is found, with its code and path, and what is right passes."""

from __future__ import annotations

from typing import Any

from mesh.validation import validate

SERVICE = {"group": "", "kind": "Service", "name": "reviews"}
CA = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}


def codes(*targets: dict[str, Any], **validation: Any) -> list[str]:
    raw = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "BackendTLSPolicy",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {"targetRefs": list(targets or (SERVICE,)), "validation": {"hostname": "a.example.com", **validation}},
    }
    problems = validate(raw).problems
    return [f"{problem.code} {problem.path}".replace("spec.validation.", "") for problem in problems]


def test_a_policy_that_uses_everything_is_good() -> None:
    names = [
        {"type": "Hostname", "hostname": "*.example.com"},
        {"type": "URI", "uri": "spiffe://cluster.local/ns/a/sa/b"},
    ]
    assert codes({**SERVICE, "sectionName": "https"}, **CA, subjectAltNames=names) == []
    assert codes(wellKnownCACertificates="System") == []
    assert codes(wellKnownCACertificates="example.com/ours") == []


def test_exactly_one_source_of_authorities_must_be_named() -> None:
    assert codes() == ["MissingField caCertificateRefs"]
    assert codes(**CA, wellKnownCACertificates="System") == ["NotAllowed wellKnownCACertificates"]
    assert codes(wellKnownCACertificates="Mine")[0].startswith("InvalidFormat")


def test_names_are_of_the_type_that_they_say_and_targets_of_a_kind_that_can_be_meant() -> None:
    assert codes(**CA, subjectAltNames=[{"type": "URI", "hostname": "a.com"}]) == [
        "NotAllowed subjectAltNames[0].hostname",
        "MissingField subjectAltNames[0].uri",
    ]
    assert codes(**CA, subjectAltNames=[{"type": "URI", "uri": "no uri"}])[0].startswith("InvalidFormat")
    assert codes({"group": "", "kind": "Secret", "name": "x"}, **CA) == ["UnsupportedKind spec.targetRefs[0]"]
    assert codes(SERVICE, SERVICE, **CA) == ["Duplicate spec.targetRefs[1]"]
    assert codes(**CA, hostname="*.example.com")[0].startswith("InvalidFormat hostname")
