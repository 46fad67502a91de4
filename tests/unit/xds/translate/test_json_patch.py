from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mesh.kinds.envoypatch import PatchOperation
from xds.translate.json_patch import PatchError, apply_patch


def patch(document: Any, *operations: dict[str, Any]) -> Any:
    return apply_patch(document, [msgspec.convert(one, PatchOperation) for one in operations])


@pytest.mark.parametrize(
    ("document", "operation", "wanted"),
    [
        ({"foo": "bar"}, {"op": "add", "path": "/baz", "value": "qux"}, {"foo": "bar", "baz": "qux"}),
        ({"foo": ["bar", "baz"]}, {"op": "add", "path": "/foo/1", "value": "qux"}, {"foo": ["bar", "qux", "baz"]}),
        ({"foo": ["bar"]}, {"op": "add", "path": "/foo/-", "value": ["a"]}, {"foo": ["bar", ["a"]]}),
        ({"foo": 1}, {"op": "add", "path": "/foo", "value": 2}, {"foo": 2}),
        ({"baz": 1, "foo": 2}, {"op": "remove", "path": "/baz"}, {"foo": 2}),
        ({"foo": [1, 2, 3]}, {"op": "remove", "path": "/foo/1"}, {"foo": [1, 3]}),
        ({"foo": [1, 2]}, {"op": "replace", "path": "/foo/0", "value": 9}, {"foo": [9, 2]}),
        ({"a": {"b": 1}, "c": {}}, {"op": "move", "from": "/a/b", "path": "/c/d"}, {"a": {}, "c": {"d": 1}}),
        ({"foo": [1, 2, 3]}, {"op": "move", "from": "/foo/0", "path": "/foo/2"}, {"foo": [2, 3, 1]}),
        ({"a": {"b": 1}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": {"b": [1]}}, {"op": "test", "path": "/a", "value": {"b": [1]}}, {"a": {"b": [1]}}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, {"/": 9, "~1": 10}),
        ({"a/b": 1}, {"op": "replace", "path": "/a~1b", "value": 2}, {"a/b": 2}),
    ],
)
def test_operations_do_what_the_rfc_says(document: Any, operation: dict[str, Any], wanted: Any) -> None:
    before = msgspec.json.encode(document)
    assert patch(document, operation) == wanted
    assert msgspec.json.encode(document) == before


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "remove", "path": "/b"}, "there is no `b`; there is: a, l, s"),
        ({"op": "replace", "path": "/a/x", "value": 1}, "there is no `x`"),
        ({"op": "add", "path": "/b/c", "value": 1}, "there is no `b`"),
        ({"op": "add", "path": "/s/c", "value": 1}, "inside something that has no parts"),
        ({"op": "add", "path": "/l/3", "value": 1}, "the list ends before `3`"),
        ({"op": "remove", "path": "/l/-"}, "`-` is no place in a list"),
        ({"op": "add", "path": "/l/01", "value": 1}, "`01` is no place in a list"),
        ({"op": "add", "path": "/l/-1", "value": 1}, "`-1` is no place in a list"),
        ({"op": "add", "path": "/l/99999999999999999999", "value": 1}, "no place in a list"),
        ({"op": "test", "path": "/l/0", "value": True}, "is not the tested value"),
        ({"op": "copy", "from": "/nowhere", "path": "/c"}, "there is no `nowhere`"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_place(operation: dict[str, Any], words: str) -> None:
    with pytest.raises(PatchError) as raised:
        patch({"a": {}, "l": [1, 2], "s": "text"}, {"op": "test", "path": "/s", "value": "text"}, operation)
    assert str(raised.value).startswith("spec.patch[1]: ")
    assert words in str(raised.value)


def test_a_failing_operation_undoes_those_before_it() -> None:
    document = {"a": [1]}
    with pytest.raises(PatchError):
        patch(document, {"op": "add", "path": "/a/0", "value": 0}, {"op": "remove", "path": "/b"})
    assert document == {"a": [1]}


def test_copies_that_double_and_double_end_at_a_limit() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/{number}"} for number in range(60)]
    with pytest.raises(PatchError, match="it copies more than"):
        patch({"a": {}}, *doubling)


def test_values_of_a_patch_are_not_shared_between_places() -> None:
    value = {"deep": [1]}
    operations = [
        {"op": "add", "path": "/one", "value": value},
        {"op": "copy", "from": "/one", "path": "/two"},
        {"op": "add", "path": "/two/deep/-", "value": 2},
    ]
    assert patch({}, *operations) == {"one": {"deep": [1]}, "two": {"deep": [1, 2]}}
    assert value == {"deep": [1]}
