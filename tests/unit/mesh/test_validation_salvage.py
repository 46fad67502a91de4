"""Of an object of wrong structure, what else is wrong with it is told at once, and nothing that the first caused."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.validation import validate


def found(kind: str, spec: Any, **metadata: Any) -> set[tuple[str, str]]:
    group = "gateway.networking.k8s.io/v1" if kind == "HTTPRoute" else "fairlead.dev/v1alpha1"
    wire = {"apiVersion": group, "kind": kind, "metadata": metadata or {"name": "a"}, "spec": spec}
    checked = validate(wire)
    assert checked.object is None
    return {(problem.code, problem.path) for problem in checked.problems}


def test_a_misspelt_field_does_not_hide_a_bad_path() -> None:
    rules = [{"matches": [{"path": {"value": "no-slash"}}]}]
    assert found("HTTPRoute", {"hostname": ["x"], "rules": rules}) == {
        ("UnknownField", "spec.hostname"),
        ("InvalidPath", "spec.rules[0].matches[0].path.value"),
    }


def test_the_items_around_a_broken_one_keep_their_numbers() -> None:
    matches = [{"path": {"value": "a"}}, {"path": {"type": 5, "value": "b"}}, {"path": {"value": "c"}}]
    assert found("HTTPRoute", {"rules": [{"matches": matches}]}) == {
        ("UnknownValue", "spec.rules[0].matches[1].path.type"),
        ("InvalidPath", "spec.rules[0].matches[0].path.value"),
        ("InvalidPath", "spec.rules[0].matches[2].path.value"),
    }


@pytest.mark.parametrize("metadata", [{"name": "BAD_NAME"}, {"labels": {}}])
def test_a_wrong_name_or_none_does_not_hide_the_rest(metadata: dict[str, Any]) -> None:
    problems = found("HTTPRoute", {"rules": [{"matches": [{"path": {"value": "a"}}]}]}, **metadata)
    assert ("InvalidPath", "spec.rules[0].matches[0].path.value") in problems
    assert len(problems) == 2


def test_what_only_the_cut_made_wrong_is_not_told() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "admin", "prot": 7}]
    endpoints = [{"address": "here", "ports": {"http": 1, "admin": 7}}]
    assert found("Service", {"ports": ports, "endpoints": endpoints}) == {
        ("UnknownField", "spec.ports[1].prot"),
        ("MissingField", "spec.ports[1].port"),
        ("InvalidFormat", "spec.endpoints[0].address"),
    }
    filters = [{"type": "RequestRedirect", "requestRedirct": {}}]
    assert found("HTTPRoute", {"rules": [{"filters": filters}]}) == {
        ("UnknownField", "spec.rules[0].filters[0].requestRedirct")
    }


@pytest.mark.parametrize("spec", [5, [], {"rules": 7}, {"rules": [[]] * 3}])
def test_where_nothing_is_left_only_the_structure_is_told(spec: Any) -> None:
    assert {code for code, _ in found("HTTPRoute", spec)} == {"WrongType"}
