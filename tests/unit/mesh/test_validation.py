"""What holds for documents of every kind."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.kinds import KINDS, to_json
from mesh.problems import Problem, child
from mesh.validation import ADDED_ON_READS, validate

_STREAMS = {"rules": [{"backendRefs": [{"name": "reviews", "port": 80}]}]}
MINIMAL: dict[str, dict[str, Any]] = {
    "GatewayClass": {"spec": {"controllerName": "fairlead.dev/gateway-controller"}},
    "Gateway": {
        "spec": {"gatewayClassName": "fairlead", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    },
    "BackendTLSPolicy": {
        "spec": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "reviews"}],
            "validation": {"wellKnownCACertificates": "System", "hostname": "reviews.example.com"},
        }
    },
    "GRPCRoute": {"spec": {"parentRefs": [{"name": "edge"}], "rules": [{}]}},
    "ListenerSet": {
        "spec": {"parentRef": {"name": "edge"}, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    },
    "HTTPRoute": {"spec": {"parentRefs": [{"name": "edge"}]}},
    "ConfigMap": {"data": {"ca.crt": "text"}},
    "TCPRoute": {"spec": {"parentRefs": [{"name": "edge"}], **_STREAMS}},
    "TLSRoute": {"spec": {"parentRefs": [{"name": "edge"}], "hostnames": ["a.example.com"], **_STREAMS}},
    "UDPRoute": {"spec": {"parentRefs": [{"name": "edge"}], **_STREAMS}},
    "ReferenceGrant": {
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "a"}],
            "to": [{"group": "", "kind": "Service"}],
        }
    },
    "Service": {"spec": {"ports": [{"name": "http", "port": 80}]}},
    "Backend": {"spec": {"endpoints": [{"fqdn": {"hostname": "api.example.com", "port": 443}}]}},
    "ServiceSubset": {"spec": {"service": "reviews", "labels": {"version": "v2"}}},
    "GatewayParameters": {"spec": {}},
    "PeerAuthentication": {"spec": {"mtls": {"mode": "STRICT"}}},
    "RequestAuthentication": {
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
            "jwtRules": [{"issuer": "https://a.org", "jwksUri": "https://a.org/jwks.json"}],
        }
    },
    "ClientPolicy": {
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
            "http3": {"enabled": True},
        }
    },
    "TelemetryPolicy": {
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
            "accessLogs": [{"stdout": True}],
        }
    },
    "Rollout": {
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "reviews"},
            "stable": {"name": "reviews"},
            "canary": {"name": "reviews-v2"},
            "steps": [{"weight": 10, "pause": "5m"}],
        }
    },
    "EnvoyPatch": {
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], "patch": [{"op": "remove", "path": "/a"}]}
    },
    "RoutePolicy": {
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "reviews"}],
            "grpcWeb": True,
        }
    },
    "TrafficPolicy": {"spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], "timeouts": {"connect": "1s"}}},
    "Secret": {"stringData": {"a": "b"}},
    "Namespace": {"metadata": {"name": "x", "labels": {"team": "red"}}},
}


def minimal(kind: str, **metadata: Any) -> dict[str, Any]:
    known = KINDS[kind]
    return {"apiVersion": known.api_version, "kind": kind, "metadata": {"name": "x", **metadata}, **MINIMAL[kind]}


def codes(raw: Any) -> list[str]:
    return [f"{problem.code} {problem.path}" for problem in validate(raw).problems]


@pytest.mark.parametrize("kind", KINDS)
def test_a_minimal_object_of_each_kind_is_good_and_keeps_its_wire_form(kind: str) -> None:
    checked = validate(minimal(kind))
    assert checked.problems == ()
    assert checked.object is not None
    assert checked.object.metadata.namespace == ("default" if KINDS[kind].namespaced else "")
    again = validate(to_json(checked.object))
    assert again == checked


def test_an_accepted_version_becomes_the_kinds_own() -> None:
    checked = validate(minimal("ReferenceGrant") | {"apiVersion": "gateway.networking.k8s.io/v1beta1"})
    assert checked.object is not None
    assert checked.object.api_version == "gateway.networking.k8s.io/v1"


def test_what_kubectl_prints_is_accepted_without_its_bookkeeping() -> None:
    raw = minimal("HTTPRoute", managedFields=[{"manager": "kubectl"}], finalizers=["x"], creationTimestamp=None)
    checked = validate(raw | {"status": {"parents": []}})
    assert checked.problems == ()
    assert checked.object is not None
    assert "managedFields" not in to_json(checked.object)["metadata"]


def test_what_the_api_adds_to_an_object_may_come_back_with_it() -> None:
    added = {"status": {}, "origin": {"source": "files"}, "warnings": [], "changes": []}
    assert added.keys() == ADDED_ON_READS
    assert validate(minimal("HTTPRoute") | added) == validate(minimal("HTTPRoute"))


def test_a_null_field_counts_as_absent_but_a_null_needed_one_is_missing() -> None:
    assert validate(minimal("HTTPRoute") | {"spec": {"parentRefs": [{"name": "x"}], "hostnames": None}}).problems == ()
    assert codes(minimal("Gateway") | {"spec": None}) == ["MissingField spec"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, "WrongType "),
        ([], "WrongType "),
        ({}, "MissingField kind"),
        ({"kind": 3, "apiVersion": "v1"}, "WrongType kind"),
        ({"kind": "HTTPRoute"}, "MissingField apiVersion"),
        ({"kind": "HTTPRoute", "apiVersion": "v1"}, "UnknownVersion apiVersion"),
        ({"kind": "Deployment", "apiVersion": "apps/v1"}, "UnknownKind kind"),
        ({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "x"}}, "UnknownVersion apiVersion"),
    ],
)
def test_what_is_no_object_of_a_known_kind_is_named(raw: Any, expected: str) -> None:
    assert codes(raw) == [expected]


def test_all_structural_faults_are_told_at_once_with_what_was_probably_meant() -> None:
    raw = minimal("HTTPRoute") | {
        "spec": {
            "parentRef": [],
            "hostnames": "a.example.com",
            "rules": [{"backend_refs": []}, {"matches": [{"path": {"type": "Prefix"}, "method": "get"}]}, 7],
        },
        "sepc": {},
    }
    problems = {problem.path: problem for problem in validate(raw).problems}
    assert problems["spec.parentRef"].fix == "write `parentRefs`"
    assert problems["spec.rules[0].backend_refs"].fix == "write `backendRefs`"
    assert problems["spec.rules[1].matches[0].path.type"].fix == "write `PathPrefix`"
    assert problems["spec.rules[1].matches[0].method"].fix == "write `GET`"
    assert problems["sepc"].fix == "write `spec`"
    assert problems["spec.hostnames"].code == "WrongType"
    assert problems["spec.rules[2]"].code == "WrongType"


def test_a_word_that_yaml_takes_for_a_boolean_is_explained() -> None:
    raw = minimal("HTTPRoute") | {"spec": {"rules": [{"matches": [{"headers": [{"name": "a", "value": True}]}]}]}}
    (problem,) = validate(raw).problems
    assert problem.path == "spec.rules[0].matches[0].headers[0].value"
    assert "boolean true" in problem.message
    assert "quotes" in problem.fix


def test_a_number_for_a_duration_is_told_to_have_a_unit_and_no_quotes() -> None:
    raw = minimal("HTTPRoute") | {"spec": {"rules": [{"timeouts": {"request": 5}}]}}
    (problem,) = validate(raw).problems
    assert (problem.code, problem.fix) == ("WrongType", "write it as in `1m30s`")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"name": ""}, ["TooShort metadata.name"]),
        ({"name": "A"}, ["InvalidFormat metadata.name"]),
        ({"name": "a\n"}, ["InvalidFormat metadata.name"]),
        ({"name": "a" * 254}, ["TooLong metadata.name"]),
        ({"name": "../x"}, ["InvalidFormat metadata.name"]),
        ({"name": "x", "namespace": "a.b"}, ["InvalidFormat metadata.namespace"]),
        ({"name": "x", "labels": {"a b": "c"}}, ['InvalidFormat metadata.labels["a b"]']),
        ({"name": "x", "labels": {"a": "-"}}, ["InvalidFormat metadata.labels.a"]),
        ({"name": "x", "labels": {"a": 1}}, ["WrongType metadata.labels.a"]),
        ({"name": "x", "annotations": {"a": "b" * 300_000}}, ["TooLong metadata.annotations"]),
        ({"name": "x", "creationTimestamp": "yesterday"}, ["InvalidFormat metadata.creationTimestamp"]),
        ({"name": "x", "creationTimestamp": "2026-02-30T00:00:00Z"}, ["InvalidFormat metadata.creationTimestamp"]),
        ({"name": "x", "creationTimestamp": "2026-02-28T00:00:00.5+01:00"}, []),
        ({}, ["MissingField metadata.name"]),
    ],
)
def test_metadata_is_judged(metadata: dict[str, Any], expected: list[str]) -> None:
    assert codes(minimal("HTTPRoute") | {"metadata": metadata}) == expected


def test_a_cluster_scoped_object_has_no_namespace() -> None:
    assert codes(minimal("GatewayClass", namespace="a")) == ["ClusterScoped metadata.namespace"]


def test_a_hundred_thousand_faults_are_told_in_fifty() -> None:
    raw = minimal("HTTPRoute") | {"spec": {f"field{number}": 1 for number in range(100_000)}}
    problems = validate(raw).problems
    assert len(problems) == 51
    assert problems[-1].code == "TooManyProblems"


def test_a_document_nested_without_end_is_refused() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert codes(minimal("HTTPRoute") | {"spec": {"hostnames": deep}}) == ["TooDeep "]


def test_messages_about_secrets_show_no_values() -> None:
    raw = minimal("Secret") | {"data": {"tls.key": ["hush"]}, "stringData": "hush", "hush": 1, "type": {"hush": "hush"}}
    checked = validate(raw)
    assert checked.object is None
    assert not any("hush" in problem.message.replace("field `hush`", "") for problem in checked.problems)


def test_a_problem_reads_as_file_line_level_code_path_message_and_fix() -> None:
    problem = Problem("WrongType", "error", "spec.x", "it is a list", "write text", "a.yaml", 7)
    assert str(problem) == "a.yaml:7: error [WrongType] spec.x: it is a list. Fix: write text."
    assert str(Problem("C", "warning", "", "odd", "")) == "warning [C] odd."


def test_paths_quote_what_is_no_plain_name() -> None:
    assert child(child(child("", "spec"), "rules"), 2) == "spec.rules[2]"
    assert child("metadata.labels", "a.io/b") == 'metadata.labels["a.io/b"]'
    assert "\n" not in child("metadata.labels", "a\nb")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(raw=JSON)
def test_garbage_never_raises_and_is_never_an_object(raw: Any) -> None:
    checked = validate(raw)
    assert checked.object is None
    assert any(problem.level == "error" for problem in checked.problems)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, item in items for path in _paths(item, (*at, key)))]


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


@settings(deadline=None, max_examples=300)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.data(), garbage=JSON)
def test_garbage_anywhere_in_a_good_object_never_raises_and_an_object_survives_its_wire_form(
    kind: str, data: st.DataObject, garbage: Any
) -> None:
    good = minimal(kind, namespace="default", labels={"a": "b"}) if KINDS[kind].namespaced else minimal(kind)
    raw = _replaced(good, data.draw(st.sampled_from(_paths(good))), garbage)
    checked = validate(raw)
    assert (checked.object is None) == any(problem.level == "error" for problem in checked.problems)
    if checked.object is not None:
        wire = msgspec.json.decode(msgspec.json.encode(to_json(checked.object)))
        assert validate(wire).object == checked.object
    for problem in checked.problems:
        assert problem.message
        assert problem.fix
        assert str(problem).isprintable()
