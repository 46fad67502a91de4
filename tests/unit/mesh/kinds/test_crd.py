from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import pytest
import re2
import yaml

from mesh.kinds.crd import SchemaError, _Maker, definition, our_kinds, structural_schema
from mesh.kinds.meta import JSON, Spec
from scripts import crds
from scripts.crds import FOLDER

made = functools.cache(crds.made)


def nodes(schema: JSON) -> Iterator[JSON]:
    yield schema
    inner = [
        *schema.get("properties", {}).values(),
        *(schema[key] for key in _INNER if isinstance(schema.get(key), dict)),
    ]
    for value in inner:
        yield from nodes(value)


_INNER = ("items", "additionalProperties")


def schema_of(struct: Any) -> JSON:
    document = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(struct)))
    return _Maker(document["$defs"], {}).node(document, "Thing", ())


@pytest.mark.parametrize("name", made())
def test_the_files_are_what_the_model_makes(name: str) -> None:
    assert (FOLDER / name).read_text() == made()[name], "a CRD is old: run `make crds`"


@pytest.mark.parametrize("name", made())
def test_every_pattern_is_one_that_an_api_server_reads(name: str) -> None:
    versions = yaml.safe_load(made()[name])["spec"]["versions"]
    for node in (node for version in versions for node in nodes(version["schema"]["openAPIV3Schema"])):
        if "pattern" in node:
            re2.compile(node["pattern"])  # Go's syntax: no look-ahead, no more than 1,000 of anything


def test_no_file_is_left_of_a_kind_that_is_no_more() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == set(made())


@pytest.mark.parametrize("kind", list(our_kinds()), ids=lambda kind: kind.name)
def test_every_node_has_a_type_and_no_reference(kind: Any) -> None:
    schema = structural_schema(kind, {})
    for node in nodes(schema):
        open_ended = "x-kubernetes-preserve-unknown-fields" in node or "x-kubernetes-int-or-string" in node
        assert "type" in node or open_ended, node
        assert not node.keys() & {"$ref", "anyOf", "title", "examples", "const"}, node
        assert node.get("type") != "array" or "x-kubernetes-list-type" in node, node


def test_words_of_the_reference_explain_fields() -> None:
    kind = next(kind for kind in our_kinds() if kind.name == "ServiceSubset")
    schema = structural_schema(kind, {("ServiceSubsetSpec", "service"): "a Service in the same namespace"})
    assert schema["properties"]["spec"]["properties"]["service"]["description"] == "A Service in the same namespace."


def test_yaml_says_the_same_as_the_definition() -> None:
    for kind in our_kinds():
        text = made()[f"{kind.group}_{kind.plural}.yaml"]
        assert yaml.safe_load(text)["spec"]["names"] == definition(kind, {})["spec"]["names"]


def test_null_becomes_nullable_and_the_limits_stay() -> None:
    class Thing(Spec, frozen=True):
        size: Annotated[int, msgspec.Meta(ge=1, le=9)] | None = None

    size = schema_of(Thing)["properties"]["size"]
    assert size == {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9, "nullable": True}


def test_a_number_or_a_string_is_kubernetes_own_union() -> None:
    class Thing(Spec, frozen=True):
        port: int | str

    assert schema_of(Thing)["properties"]["port"] == {"x-kubernetes-int-or-string": True}


def test_defaults_that_say_something_stay() -> None:
    class Thing(Spec, frozen=True):
        mode: Literal["a", "b"] = "a"
        on: bool = False
        name: str = ""
        names: tuple[str, ...] = ()

    properties = schema_of(Thing)["properties"]
    assert properties["mode"] == {"type": "string", "enum": ["a", "b"], "default": "a"}
    assert properties["on"]["default"] is False
    assert "default" not in properties["name"]
    assert "default" not in properties["names"]


def test_anything_at_all_keeps_unknown_fields() -> None:
    class Thing(Spec, frozen=True):
        value: Any
        more: dict[str, Any]

    properties = schema_of(Thing)["properties"]
    assert properties["value"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert properties["more"] == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class A(Spec, frozen=True, tag=True):
    a: int


class B(Spec, frozen=True, tag=True):
    b: int


def test_a_union_of_structs_is_refused_with_its_path() -> None:
    class Thing(Spec, frozen=True):
        either: A | B

    with pytest.raises(SchemaError, match=r"Thing\.either"):
        schema_of(Thing)


class Node(Spec, frozen=True):
    inner: tuple[Node, ...] = ()


def test_a_type_that_contains_itself_is_refused() -> None:
    with pytest.raises(SchemaError, match="Node contains itself"):
        schema_of(Node)
