from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate

ROUTE = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}


def judged(*operations: Any, targets: Any = (ROUTE,), **more: Any) -> list[str]:
    spec = {"targetRefs": list(targets), "patch": list(operations), **more}
    raw = {"apiVersion": "fairlead.dev/v1alpha1", "kind": "EnvoyPatch", "metadata": {"name": "p"}, "spec": spec}
    checked = validate(raw)
    assert (checked.object is None) == bool(checked.problems)
    return [f"{problem.code} {problem.path}" for problem in checked.problems]


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        ({"op": "add", "path": "/a"}, "MissingField spec.patch[0].value"),
        ({"op": "remove", "path": "/a", "value": 1}, "NotAllowed spec.patch[0].value"),
        ({"op": "copy", "path": "/a"}, "MissingField spec.patch[0].from"),
        ({"op": "add", "path": "/a", "from": "/b", "value": 1}, "NotAllowed spec.patch[0].from"),
        ({"op": "move", "from": "/a", "path": "/a/b"}, "InvalidCombination spec.patch[0].path"),
        ({"op": "merge", "path": "/a", "value": 1}, "UnknownValue spec.patch[0].op"),
        ({"op": "add", "path": "a", "value": 1}, "InvalidFormat spec.patch[0].path"),
        ({"op": "add", "path": "", "value": {}}, "InvalidFormat spec.patch[0].path"),
        ({"op": "add", "path": "/a~2", "value": 1}, "InvalidFormat spec.patch[0].path"),
        ({"op": "add", "path": "/a\n", "value": 1, "from": None}, None),
        ({"op": "add", "path": "/" + "a" * 1024, "value": 1}, "TooLong spec.patch[0].path"),
    ],
)
def test_an_operation_must_be_whole(operation: dict[str, Any], problem: str | None) -> None:
    assert judged(operation) == ([problem] if problem is not None else [])


def test_a_patch_needs_operations_and_not_too_many() -> None:
    assert judged() == ["TooFew spec.patch"]
    assert judged(*[{"op": "remove", "path": "/a"}] * 65) == ["TooMany spec.patch"]


def test_values_may_be_anything_that_json_can_say() -> None:
    for value in (0, False, "", [], {"a": [{"b": 1.5}]}):
        assert judged({"op": "add", "path": "/a", "value": value}) == []


def test_targets_are_of_one_sort_and_known() -> None:
    operation = {"op": "remove", "path": "/a"}
    assert judged(operation, targets=[ROUTE, GATEWAY]) == ["InvalidCombination spec.targetRefs[1]"]
    assert judged(operation, targets=[ROUTE, {**ROUTE, "kind": "GRPCRoute"}]) == []
    assert judged(operation, targets=[{"group": "", "kind": "Secret", "name": "s"}]) == [
        "UnsupportedKind spec.targetRefs[0]"
    ]
    assert judged(operation, targets=[{"group": "", "kind": "Namespace", "name": "default"}]) == [
        "UnsupportedKind spec.targetRefs[0]"
    ]


SERVICE = {"kind": "Service", "name": "s"}


@pytest.mark.parametrize(
    ("targets", "resource", "problem"),
    [
        ([GATEWAY], "VirtualHost", None),
        ([GATEWAY], "UDPListener", None),
        ([GATEWAY], "HTTP3Listener", None),
        ([SERVICE], "Listener", None),
        ([SERVICE], "Cluster", None),
        ([ROUTE], "Route", None),
        ([ROUTE], "VirtualHost", "InvalidCombination spec.resource"),
        ([GATEWAY], "Cluster", "InvalidCombination spec.resource"),
        ([GATEWAY], "Secret", "UnknownValue spec.resource"),
        ([GATEWAY, SERVICE], "Listener", "InvalidCombination spec.targetRefs[1]"),
    ],
)
def test_a_resource_is_one_that_the_target_has(targets: Any, resource: str, problem: str | None) -> None:
    operation = {"op": "remove", "path": "/metadata"}
    assert judged(operation, targets=targets, resource=resource) == ([problem] if problem is not None else [])


def test_a_resource_can_be_named() -> None:
    operation = {"op": "remove", "path": "/metadata"}
    assert judged(operation, targets=[GATEWAY], resourceName="0.0.0.0:80") == []
    assert judged(operation, targets=[GATEWAY], resourceName="") == ["TooShort spec.resourceName"]
