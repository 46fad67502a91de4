from __future__ import annotations

from typing import Any

import pytest

from mesh.kinds import KINDS
from mesh.model import DeclaredKey, ObjectKey
from mesh.refusals import REFUSED, refused
from mesh.status import Status
from mesh.statuses import STATUSES
from mesh.tables import Change
from mesh.validation import validate
from tests.support.model import Model

SOURCE = "kubernetes:one"
GATEWAY = """
kind: Gateway
metadata: {name: edge, generation: 1}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 80, protocol: HTTP}]}
"""
ROUTE = "{kind: HTTPRoute, metadata: {name: r, generation: 1}, spec: {parentRefs: [{name: edge}]}}"


def refuse(model: Model, kind: str, name: str, spec: Any, *, source: str = SOURCE) -> None:
    """A source reads an object in a form that validation refuses."""
    namespace = "default" if KINDS[kind].namespaced else ""
    raw = {
        "apiVersion": KINDS[kind].api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "generation": 7},
        "spec": spec,
    }
    checked = validate({**raw, "metadata": {"name": name, "namespace": namespace}})
    assert checked.object is None
    key = DeclaredKey(kind, namespace, name, source)
    model.engine.commit([Change(REFUSED, key, refused(raw, checked.problems))])


def bad_route(*parents: dict[str, Any]) -> dict[str, Any]:
    match = {"path": {"type": "RegularExpression", "value": "("}}
    return {"parentRefs": list(parents), "rules": [{"matches": [match]}]}


def conditions(status: Status) -> list[tuple[str, bool, str]]:
    return [(one.type, one.status, one.reason) for one in status.conditions]


def test_a_route_in_a_form_that_is_refused_is_told_why_by_each_parent_and_what_stands() -> None:
    model = Model()
    model.apply(GATEWAY, source=SOURCE)
    model.apply(ROUTE, source=SOURCE)
    refuse(model, "HTTPRoute", "r", bad_route({"name": "edge"}, {"name": "edge", "port": "x"}, {"port": 1}))
    status = model.status("HTTPRoute", "r")
    assert status.observed_generation == 7
    (parent,) = status.parents
    accepted, resolved = parent.conditions
    assert (accepted.status, accepted.reason) == (False, "UnsupportedValue")
    assert "spec." in accepted.message
    assert accepted.message.endswith("Generation 1 stands.")
    assert (resolved.type, resolved.status) == ("ResolvedRefs", True)


def test_an_object_that_was_never_good_is_told_that_it_has_no_effect() -> None:
    model = Model()
    model.apply(GATEWAY, source=SOURCE)
    refuse(model, "HTTPRoute", "r", bad_route({"name": "edge"}))
    (parent,) = model.status("HTTPRoute", "r").parents
    assert parent.conditions[0].message.endswith("It has no effect.")
    refuse(model, "ServiceSubset", "s", {"service": "a"})
    assert conditions(model.status("ServiceSubset", "s")) == [("Accepted", False, "Invalid")]


def test_a_refusal_ends_with_the_next_good_form() -> None:
    model = Model()
    model.apply(GATEWAY, source=SOURCE)
    model.apply(ROUTE, source=SOURCE)
    before = model.status("HTTPRoute", "r")
    refuse(model, "HTTPRoute", "r", bad_route({"name": "edge"}))
    assert model.status("HTTPRoute", "r") != before
    model.engine.commit([Change(REFUSED, DeclaredKey("HTTPRoute", "default", "r", SOURCE), None)])
    assert model.status("HTTPRoute", "r") == before


def test_a_gateway_keeps_telling_of_its_listeners_when_its_next_form_is_refused() -> None:
    model = Model()
    model.apply(GATEWAY, source=SOURCE)
    listeners = model.status("Gateway", "edge").listeners
    refuse(model, "Gateway", "edge", {"gatewayClassName": "fairlead", "listeners": "none"})
    status = model.status("Gateway", "edge")
    assert conditions(status)[0] == ("Accepted", False, "Invalid")
    assert [kind for kind, _, _ in conditions(status)] == ["Accepted", "Programmed"]
    assert status.listeners == listeners
    refuse(model, "Gateway", "new", {"gatewayClassName": "fairlead", "listeners": "none"})
    assert conditions(model.status("Gateway", "new")) == [
        ("Accepted", False, "Invalid"),
        ("Programmed", False, "Invalid"),
    ]


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Gateway", {"gatewayClassName": "theirs", "listeners": "none"}),
        ("Gateway", {"gatewayClassName": ["x"]}),
        ("Gateway", "nothing"),
        ("GatewayClass", {"controllerName": "example.com/x", "description": 1}),
        ("GatewayClass", {"controllerName": {}}),
    ],
)
def test_what_is_not_ours_is_not_told_when_we_cannot_read_it(kind: str, spec: Any) -> None:
    model = Model()
    refuse(model, kind, "x", spec)
    assert model.engine.get(STATUSES, ObjectKey(kind, "default" if kind == "Gateway" else "", "x")) is None


@pytest.mark.parametrize("parents", [None, "edge", [], [None], [{"name": 1}], {"name": "edge"}])
def test_a_route_whose_parents_cannot_be_read_is_nobody_s(parents: Any) -> None:
    model = Model()
    model.apply(GATEWAY, source=SOURCE)
    refuse(model, "HTTPRoute", "r", {**bad_route(), "parentRefs": parents})
    assert model.status("HTTPRoute", "r").parents == ()


def test_a_refused_declaration_of_a_source_that_comes_later_changes_nothing() -> None:
    model = Model()
    model.apply(GATEWAY, source=SOURCE)
    model.apply(ROUTE, source=SOURCE)
    before = model.status("HTTPRoute", "r")
    refuse(model, "HTTPRoute", "r", bad_route({"name": "edge"}), source="kubernetes:two")
    assert model.status("HTTPRoute", "r") == before
