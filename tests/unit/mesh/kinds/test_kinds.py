from __future__ import annotations

import json

import msgspec
import pytest

from mesh.kinds import KINDS, decode, encode, json_schema, kind_named, to_json
from mesh.kinds.httproute import HTTPRoute
from mesh.kinds.secret import Secret

ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "reviews", "namespace": "default", "labels": {"b": "2", "a": "1"}},
    "spec": {
        "parentRefs": [{"name": "edge"}],
        "rules": [{"backendRefs": [{"name": "reviews", "port": 80, "weight": 0}]}],
    },
}


def test_an_object_keeps_its_wire_form() -> None:
    assert to_json(msgspec.convert(ROUTE, HTTPRoute)) == ROUTE


def test_equal_objects_have_equal_bytes_whatever_the_order_of_their_maps() -> None:
    other = json.loads(json.dumps(ROUTE))
    other["metadata"]["labels"] = {"a": "1", "b": "2"}
    one, two = msgspec.convert(ROUTE, HTTPRoute), msgspec.convert(other, HTTPRoute)
    assert encode(one) == encode(two)
    assert decode("HTTPRoute", encode(one)) == one


def test_an_empty_list_of_matches_means_every_request_as_an_absent_one_does() -> None:
    (rule,) = msgspec.convert(ROUTE | {"spec": {"rules": [{"matches": []}]}}, HTTPRoute).spec.rules
    assert rule.matches[0].path.value == "/"
    (absent,) = msgspec.convert(ROUTE | {"spec": {}}, HTTPRoute).spec.rules
    assert absent.matches == rule.matches


@pytest.mark.parametrize("name", ["HTTPRoute", "httproute", "httproutes", "HTTPROUTES"])
def test_a_kind_is_found_by_every_name_that_people_use(name: str) -> None:
    assert kind_named(name) is KINDS["HTTPRoute"]


def test_short_names_and_unknown_names() -> None:
    assert kind_named("gtw") is KINDS["Gateway"]
    assert kind_named("gc") is KINDS["GatewayClass"]
    assert kind_named("pods") is None


def test_no_two_kinds_share_a_name() -> None:
    names = [name for kind in KINDS.values() for name in {kind.name.lower(), kind.plural, *kind.short_names}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_schema_that_javascript_can_read(kind: str) -> None:
    schema = json.dumps(json_schema(kind))
    assert KINDS[kind].struct.__name__ in schema
    assert "(?!" not in schema


def test_a_secret_does_not_print_its_values() -> None:
    secret = msgspec.convert(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"tls.key": "hush"}}, Secret
    )
    assert "hush" not in repr(secret)
    assert "hush" not in repr((secret,))
    assert "hush" not in f"{secret}"
